"""Traditional forms of the characters that stand in names, each before its simplified one.

Registers of one family write 張 and 张, 劉 and 刘. Keys are made from the simplified form; the name itself stays as it
was written. Ours, from the General List of Simplified Chinese Characters (1986) as far as surnames and given names
have them; a traditional form that is simplified to more than one character is left out (乾, 瞭, 徵).
"""

from __future__ import annotations

from functools import lru_cache

PAIRS: tuple[str, ...] = tuple(
    """張张 劉刘 陳陈 楊杨 趙赵 黃黄 吳吴 孫孙 馬马 羅罗 鄭郑 謝谢 許许 馮冯 韓韩 鄧邓 蕭萧 葉叶 閻阎 蘇苏 魯鲁 韋韦 賈贾
    鄒邹 陸陆 龍龙 萬万 錢钱 湯汤 賴赖 龔龚 龐庞 顏颜 聶聂 齊齐 莊庄 嚴严 塗涂 盧卢 喬乔 畢毕 閔闵 關关 練练 鍾钟 鐘钟
    賀贺 駱骆 費费 賓宾 遲迟 鄔邬 勞劳 儲储 諸诸 單单 華华 倫伦 歐欧 陽阳 東东 門门 閭闾 邊边 衛卫 樂乐 寧宁 譚谭 麥麦
    傑杰 偉伟 強强 國国 慶庆 軍军 飛飞 鳳凤 蘭兰 麗丽 紅红 豔艳 艷艳 靜静 潔洁 瓊琼 瑩莹 榮荣 貴贵 寶宝 財财 發发 興兴
    業业 學学 會会 義义 禮礼 愛爱 憐怜 賢贤 聖圣 龜龟 壽寿 樹树 棟栋 樑梁 橋桥 權权 歡欢 歸归 歲岁 歷历 漢汉 濤涛 澤泽
    潤润 濱滨 濟济 淵渊 湧涌 滿满 漸渐 澗涧 瀾澜 瀟潇 燦灿 煒炜 煥焕 燁烨 爐炉 營营 獎奖 瑋玮 瑤瑶 璽玺 環环 現现 電电
    畫画 異异 療疗 盡尽 監监 碩硕 確确 禎祯 祿禄 稱称 種种 穎颖 積积 穌稣 競竞 筆笔 節节 範范 簡简 粵粤 糧粮 紀纪 約约
    純纯 紗纱 紋纹 納纳 紐纽 級级 細细 紳绅 終终 組组 結结 絢绚 給给 統统 絲丝 經经 綠绿 維维 綱纲 網网 綵彩 綸纶 綺绮
    緒绪 緣缘 編编 緯纬 縉缙 縣县 縱纵 總总 績绩 繡绣 織织 繼继 續续 纖纤 羋芈 聞闻 聯联 聰聪 聲声 職职 肅肃 腦脑 膽胆
    臨临 舊旧 艦舰 蓋盖 蔣蒋 蓮莲 薈荟 薔蔷 薩萨 藍蓝 藝艺 藥药 蘆芦 蘊蕴 處处 號号 虛虚 蟬蝉 術术 衝冲 補补 製制 見见
    規规 視视 親亲 覺觉 覽览 觀观 訓训 記记 訪访 設设 詠咏 評评 詞词 詩诗 誌志 認认 語语 誠诚 誼谊 調调 諒谅 論论 諾诺
    謙谦 講讲 謹谨 證证 識识 護护 譽誉 讀读 讓让 讚赞 豐丰 貝贝 貞贞 負负 貢贡 資资 賜赐 賞赏 質质 贊赞 贏赢 趨趋 躍跃
    車车 軒轩 載载 輝辉 輪轮 轉转 辭辞 農农 連连 進进 運运 達达 遠远 適适 選选 遜逊 遷迁 邁迈 鄉乡 釗钊 釵钗 鈞钧 鈴铃
    鉅钜 銀银 銅铜 銘铭 銳锐 鋒锋 鋼钢 錄录 錦锦 鍵键 鎮镇 鎖锁 鏡镜 鐵铁 鑄铸 鑑鉴 長长 開开 間间 閃闪 閏闰 閣阁 閱阅
    闊阔 陣阵 陰阴 際际 隨随 險险 雙双 雞鸡 離离 雲云 霧雾 靈灵 韻韵 響响 頂顶 項项 順顺 須须 頌颂 預预 頓顿 領领 頤颐
    頻频 顯显 願愿 風风 養养 餘余 館馆 駒驹 駿骏 騰腾 驊骅 驍骁 驗验 體体 魚鱼 鮮鲜 鯉鲤 鯨鲸 鳥鸟 鳴鸣 鴻鸿 鵬鹏 鶴鹤
    鷹鹰 黨党 齡龄 勝胜 勛勋 勳勋 勵励 匯汇 區区 協协 參参 啟启 問问 員员 喚唤 嘯啸 圍围 園园 圓圆 圖图 團团 執执 堅坚
    場场 堯尧 報报 墾垦 壯壮 壘垒 夢梦 奮奋 妝妆 婦妇 嫻娴 嬌娇 嬋婵 孌娈 實实 寬宽 審审 將将 專专 尋寻 對对 導导 尷尴
    層层 屬属 嶺岭 嶽岳 嵐岚 巔巅 幫帮 幹干 庫库 廣广 廠厂 彥彦 彌弥 彎弯 後后 從从 復复 徹彻 徑径 憲宪 憶忆 應应 懷怀
    戀恋 戰战 戲戏 戶户 揚扬 換换 揮挥 擁拥 擇择 據据 撥拨 攬揽 敵敌 數数 斷断 時时 昇升 晉晋 曉晓 曄晔 暉晖 暢畅 書书
    朧胧 極极 機机 檔档 櫻樱 氣气 沖冲 況况 決决 涼凉 淨净 淺浅 溫温 溝沟 滄沧 漁渔 潛潜 無无 爾尔 猶犹 獨独 獻献 琺珐
    瑪玛 璦瑷 當当 眾众 禪禅 禦御 紹绍 絡络 緻致 縈萦 纓缨 羣群 習习 脈脉 萊莱 葦苇 蒼苍 蔭荫 蕓芸 蘋苹 筍笋 賽赛 銓铨
    鋭锐 鎧铠 鈺钰 鉀钾 鎔镕 鏵铧 鏗铿 鐸铎 閎闳 闖闯 陞升 隱隐 雋隽 頡颉 颯飒 馳驰 駕驾 驅驱 驕骄 傳传 億亿 儀仪 儉俭
    優优 倉仓 個个 備备 債债 傾倾 僑侨 價价 償偿 兒儿 內内 兩两 冊册 別别 則则 剛刚 創创 劃划 劍剑 劇剧 動动 務务 勁劲""".split()
)


@lru_cache(maxsize=1)
def simplified() -> dict[int, str]:
    """Traditional character -> its simplified form, for ``str.translate``."""
    return {ord(pair[0]): pair[1] for pair in PAIRS}
