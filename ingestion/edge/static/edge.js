"use strict";
// The page asks its own node every few seconds; it never talks to anybody else.
const at = (id) => document.getElementById(id);
const number = (n) => (n ?? 0).toLocaleString("zh-CN");
const bytes = (n) => (n >= 1e9 ? (n / 1e9).toFixed(1) + " GB" : n >= 1e6 ? (n / 1e6).toFixed(1) + " MB" : number(Math.ceil((n ?? 0) / 1e3)) + " KB");
const megabytes = (n) => (n >= 1000 ? (n / 1000).toFixed(1) + " GB" : number(n) + " MB");

function span(seconds) {
  if (seconds === null || seconds === undefined) return "—";
  if (seconds < 60) return seconds + " 秒前";
  if (seconds < 3600) return Math.floor(seconds / 60) + " 分钟前";
  if (seconds < 172800) return Math.floor(seconds / 3600) + " 小时前";
  return Math.floor(seconds / 86400) + " 天前";
}

function offset(ms) {
  if (ms === null || ms === undefined) return "未测得";
  const seconds = Math.abs(ms) / 1000;
  const text = seconds < 2 ? "准确" : seconds < 120 ? Math.round(seconds) + " 秒" : seconds < 7200 ? Math.round(seconds / 60) + " 分钟" : (seconds / 3600).toFixed(1) + " 小时";
  return seconds < 2 ? text : (ms > 0 ? "慢 " : "快 ") + text;
}

function set(id, text) { at(id).textContent = text; }

function note(title, detail, soft) {
  const box = document.createElement("div");
  if (soft) box.className = "soft";
  const bold = document.createElement("b");
  bold.textContent = title;
  const small = document.createElement("small");
  small.textContent = detail;
  box.append(bold, small);
  return box;
}

function headline(s) {
  const stuck = s.problem || s.trouble_texts.length || s.refusals.some((r) => r.code !== "E295");
  if (stuck) return ["bad", "需要处理", "接收到的数据都在本地，未丢失。请按下方提示处理。"];
  if (!s.connected) return ["away", "与上级断开，正在本地保存", "照常接收数据。线路恢复后自动续传，不需人工操作。"];
  if (s.waiting_records || s.waiting_chunks) return ["ok", "正在上传", "线路正常，积压正在传往上级。"];
  return ["ok", "一切正常", "接收到的数据都已送达上级。"];
}

function row(cells) {
  const tr = document.createElement("tr");
  for (const [text, cls] of cells) {
    const td = document.createElement("td");
    td.textContent = text;
    if (cls) td.className = cls;
    tr.append(td);
  }
  return tr;
}

function show(s) {
  const [tone, title, lead] = headline(s);
  at("state").className = "state " + tone;
  set("headline", title);
  set("lead", lead);
  set("node", s.node);
  set("org", s.org_name);
  set("now", s.now);
  set("here-name", s.node);
  set("there-name", s.parent === "centre" ? "中心" : s.parent);
  set("waiting-records", number(s.waiting_records));
  set("waiting-size", s.waiting_bytes ? "加密后 " + bytes(s.waiting_bytes) : "没有积压");
  set("oldest", s.oldest_at ? span(s.oldest_seconds) : "—");
  set("oldest-at", s.oldest);
  set("last", s.connected ? "在线" : s.last_contact ? s.last_contact.slice(6, 11) : "从未");
  at("last").className = s.connected ? "" : "warn";
  set("last-at", s.last_contact);
  set("offset", offset(s.offset_ms));
  at("offset").className = Math.abs(s.offset_ms ?? 0) > 60000 ? "warn" : "";
  const share = Math.min(1, s.used_mb / s.quota_mb);
  at("gauge").setAttribute("width", String(Math.max(share * 400, share ? 4 : 0)));
  at("gauge").setAttribute("class", share > 0.8 ? "used warn" : "used");
  set("used", megabytes(s.used_mb) + " / " + megabytes(s.quota_mb));
  set("free", megabytes(s.free_mb));
  set("taken", number(s.taken_files) + " 个文件，" + number(s.taken_records) + " 条记录");
  set("sent", bytes(s.sent_bytes));
  set("certificate", new Date(s.certificate_until * 1000).toLocaleDateString("zh-CN"));
  const pill = at("pack-pill");
  const has = Number(s.pack.version) > 0;
  pill.textContent = s.pack_locked ? "已锁定" : has ? "可离线查询" : "尚未下发";
  pill.className = "pill " + (s.pack_locked ? "warn" : has ? "good" : "");
  set("residents", has ? number(Number(s.pack.residents)) : "—");
  set("pack-date", s.pack.date || "—");
  set("pack-version", has ? s.pack.version : "—");
  at("unlock").hidden = !s.pack_locked;
  const notes = [];
  if (s.problem) notes.push(note(s.problem.code + "　" + s.problem.zh, s.problem.remedy_zh));
  for (const t of s.trouble_texts) notes.push(note(t.code + "　" + t.zh, t.remedy_zh));
  for (const r of s.refusals) notes.push(note(r.code + "　" + r.zh + (r.code === "E295" ? "（" + number(r.count) + " 个）" : ""), r.remedy_zh, r.code === "E295"));
  if (s.pack_problem && s.pack_problem !== "E289") notes.push(note(s.pack_problem + "　居民包未更新", "节点保留原有居民包，并会自动再取。", true));
  at("notes").replaceChildren(...notes);
  at("notes").hidden = !notes.length;
  at("children-card").hidden = !s.is_parent;
  const rows = s.children.map((c) => row([[c.node], [span(c.silent_seconds) + "　" + c.last], [number(c.waiting_records), "num"], [c.troubles.length ? c.troubles.join(" ") : c.silent_seconds > 300 ? "未联络" : "在线"]]));
  at("children").replaceChildren(...(rows.length ? rows : [row([["尚无站点接入"], [""], [""], [""]])]));
}

async function refresh() {
  try {
    show(await (await fetch("/status.json", { cache: "no-store" })).json());
  } catch {
    at("state").className = "state bad";
    set("headline", "节点程序没有运行");
    set("lead", "请重新启动前置节点；已接收的数据都在本地。");
  }
}

at("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  const answer = await fetch("/unlock", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ passphrase: at("passphrase").value }) });
  at("passphrase").value = "";
  button.disabled = false;
  const told = await answer.json();
  set("unlock-note", answer.ok ? "" : told.error.zh + "。" + told.error.remedy_zh);
  await refresh();
});

refresh();
setInterval(refresh, 3000);
