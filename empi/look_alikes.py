"""Characters that clerks mistake for one another by their look: one class a group, of characters used in names.

Ours, collected from the strokes that differ (one stroke more or less, another radical beside the same phonetic
part); a character stands in one class only. What sounds alike is the business of the pinyin key.
"""

from __future__ import annotations

from functools import lru_cache

GROUPS: tuple[str, ...] = tuple(
    """己已巳 未末朱 土士 日曰 王玉主壬 天夫 大太犬 人入八 干千于 午牛 刀力 戊戌戍成 候侯 晴睛 清请情 辩辨 洗冼 凤风
    宇字 宜宣 明朋 莱菜 傅博溥搏 钊钏 钧钓钩 锋峰烽蜂 梅海悔 杨扬 林材 秀季李 荣荥 莹萤荧 颖颍 祥样详 芳芬 芝艺 芸芙
    玲铃岭 瑞端 昊吴 杲果 浩洁皓 淇琪棋祺 琳淋 瑶遥谣 怡恰 恒桓 恺凯 思恩 文交 杉彬彭 柏拍伯 桂佳挂 俊骏峻竣 仪议 伟纬炜
    健建键 伦论轮 光先 军车 利和 刚钢岗 勇男 勤勒 华毕 历厉 友发 史吏 国因 圆园 坤绅 城诚 微徽 兵乒 丁了 万方 兰三 冰水
    云去 元无 冈网 凡几 划刘 则侧 加如 升开 古占 召台 叶汁 司同 向问 启后 呈星 周用 哲誓 喜嘉 均匀 培陪 堂棠 增曾 夏复
    子孑 孔扎 学字 安妥 宏宠 宝宁 宗崇 宾滨 密蜜 富福 尚向 尹伊 屈届 山出 川州 巧朽 平半 广厂 庆厌 康唐 延廷 张涨 弘红
    彦产 彤丹 徐涂 忠患 怀坏 惠慧 成城 振震 敏梅 斯欺 新亲 旺汪 昌冒 昕听 春泰秦 晓哓 晖辉 晨震 智知 月用 有友 朗郎
    木本 杰木 松柏 柳柏 栋拣 树村 根银 桃挑 森林 楠南 欣软 正止 民良 永水 江汪 沈沉 沛沭 沙妙 泉皇 波玻 洪共 涛铸 润阔
    淑椒 湘相 源原 潘番 灵炅 炳柄 烨华 焕换 熙照 燕蒸 爱受 牧枚 珊删 珍诊 珠株 琴瑟 瑜愉 璐璐 甘甜 甲申由田 白百 皇星
    盛咸 真直 石右 研妍 磊众 礼扎 程呈 立产 竹付 素紊 紫柴 红虹 级极 维唯 绮倚 美姜 群郡 翔羽 翠卒 聪总 胜性 良艮 艳绝
    花化 若苦 英央 茂戊 茹如 荷何 菊掬 萍苹 蓉容 蔡祭 蕾雷 薇微 虎虚 许计 谢射 豪毫 贝见 贤坚 贵责 超起 越赵 路璐 辰唇
    进迸 远运 迪笛 邓郑 邱丘 郭敦 金全 鑫金 银根 锦绵 长张 闯闰 阳阴 陆阮 陈阵 雄雌 雪雷 雯霎 霖霜 青责 静净 韦书 顺须
    领岭 风凤 飞气 馨磬 骆洛 高亮 魏巍 鲁鱼 鸿鸟 鹏朋 麦表 黄寅 龙尤 龚袭""".split()
)


@lru_cache(maxsize=1)
def canonical() -> dict[int, str]:
    """Character -> the first character of its class, for ``str.translate``; the first group that has it wins."""
    table: dict[int, str] = {}
    for group in GROUPS:
        free = [c for c in group if ord(c) not in table]
        for character in free:
            table[ord(character)] = free[0]
    return table
