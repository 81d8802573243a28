"""The style sheet of all reports: light and dark as the reader's system is, readable on a phone and on paper."""

from __future__ import annotations

import re

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--surface:#f5f6f8;--ink:#161a20;--muted:#58616e;--line:#dfe3e9;--base:#858f9e;
--accent:#0a66c2;--second:#b4570b;--third:#7a3fb0;--good:#12703a;--good-bg:#e4f4ea;--bad:#a82018;--bad-bg:#fbe9e7}
@media screen and (prefers-color-scheme:dark){:root{--bg:#101318;--surface:#191e25;--ink:#e9ecf1;--muted:#a0a9b6;--line:#2c333d;
--base:#717d8d;--accent:#5badf7;--second:#f0a35e;--third:#c79bf0;--good:#62d195;--good-bg:#12301f;--bad:#ff9087;--bad-bg:#3a1b18}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
Arial,"Noto Sans",sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
.page{max-width:1080px;margin:0 auto;padding:40px 28px 72px}
a{color:var(--accent);text-underline-offset:3px}
h1{font-size:clamp(28px,5vw,42px);line-height:1.15;letter-spacing:-.02em;margin:6px 0 8px;overflow-wrap:anywhere}
h2{font-size:22px;line-height:1.3;letter-spacing:-.01em;margin:0 0 6px}
h3{font-size:16px;margin:0 0 4px}h3.apart{margin-top:26px}
p{margin:0 0 12px;max-width:76ch}
.eyebrow{color:var(--muted);font-size:14px;margin:0}
.lead{color:var(--muted);max-width:80ch}
section{margin-top:56px;padding-top:28px;border-top:1px solid var(--line)}
.verdict{display:flex;gap:10px;align-items:baseline;margin:18px 0 24px;padding:12px 16px;border-radius:10px;max-width:none}
.verdict b{white-space:nowrap}
.met{background:var(--good-bg)}.met b{color:var(--good)}
.unmet{background:var(--bad-bg)}.unmet b{color:var(--bad)}
.open{background:var(--surface)}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:14px;margin:0;padding:0;list-style:none}
.tile{background:var(--surface);border-radius:12px;padding:16px 18px 18px;min-width:0}
.tile .name{color:var(--muted);font-size:14px;margin:0}
.tile .big{font-size:clamp(22px,3vw,30px);font-weight:650;letter-spacing:-.02em;line-height:1.25;margin:2px 0 0;
white-space:nowrap}
.tile .from{font-size:14px;color:var(--muted);margin:0 0 12px}
.tile .change{font-size:14px;margin:10px 0 0;line-height:1.4}
.bars{display:block;min-width:48px}
.bars i{display:block;height:6px;border-radius:3px;background:var(--base);min-width:1px}
.bars i+i{margin-top:3px;background:var(--accent)}
.kept{display:block;height:8px;border-radius:4px;background:var(--base);overflow:hidden}
.kept i{display:block;height:100%;background:var(--accent)}
.pair{display:grid;grid-template-columns:1fr 104px;gap:16px;align-items:center}
.pair>:last-child{text-align:right;white-space:nowrap}
nav ul{display:flex;flex-wrap:wrap;gap:6px 20px;list-style:none;padding:0;margin:32px 0 0;font-size:15px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14.5px}
th,td{padding:7px 12px 7px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th:last-child,td:last-child{padding-right:0}
thead th{color:var(--muted);font-weight:500;font-size:13.5px;vertical-align:bottom;white-space:nowrap}
tbody th{font-weight:500}
td.n,th.n{text-align:right;white-space:nowrap}
td.w,th.w{white-space:nowrap}
tr.taken td,tr.taken th{font-weight:600}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:.9em;overflow-wrap:break-word}
.layers{table-layout:fixed}
.layers td,.layers th{padding-top:5px;padding-bottom:5px;vertical-align:middle}
.layers th,.layers td{padding-right:32px}
.layers .c-name{width:25%}.layers .c-kind{width:11%}
.layers th .mono{font-size:12.5px}
.muted{color:var(--muted)}
.charts{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:28px 36px;margin-top:18px}
figure{margin:0;min-width:0}
figcaption{font-weight:600;font-size:15px;margin-bottom:6px}
.chart{display:block;width:100%;height:auto;overflow:visible}
.chart text{fill:var(--muted);font-size:12px}
.chart .label{font-size:12.5px}
.chart .note{fill:var(--ink);font-size:11.5px}
.chart .start{text-anchor:start}.chart .middle{text-anchor:middle}.chart .end{text-anchor:end}
.chart .grid{stroke:var(--line)}.chart .axis{stroke:var(--base)}
.chart .identity{stroke:var(--base);stroke-dasharray:2 4;stroke-width:1.5}
.chart .rule{stroke:var(--ink);stroke-dasharray:5 4;opacity:.65}
.series{--c:var(--accent)}.series.base{--c:var(--base)}.series.second{--c:var(--second)}.series.third{--c:var(--third)}
.series .dot{fill:var(--c);stroke:var(--bg);stroke-width:1}
.series.hollow .dot{fill:var(--bg);stroke:var(--c);stroke-width:1.8}
.series .ring{fill:none;stroke:var(--c);stroke-width:1.5}
.series .line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}.series .dashed{stroke-dasharray:5 4}
.series .whisker{stroke:var(--c);stroke-width:1.5;opacity:.6}
.chart .band{fill:var(--accent);opacity:.11}.chart .area{fill:var(--accent)}.chart .area.second{fill:var(--second)}
.chart .bar{fill:var(--base)}.chart .bar.accent{fill:var(--accent)}
.chart .mark{stroke:var(--ink);stroke-width:1.8}.chart .mark.far{stroke:var(--muted);stroke-width:1.2;stroke-dasharray:2 2}
.chart .mark.quiet{stroke:var(--third)}
.legend{display:flex;flex-wrap:wrap;gap:2px 18px;list-style:none;padding:0;margin:4px 0 0;font-size:14px;color:var(--muted)}
.legend li{display:flex;align-items:center;gap:7px}
.key{width:11px;height:11px;border-radius:50%;background:var(--accent);flex:none}
.key.base{background:var(--base)}.key.second{background:var(--second)}.key.third{background:var(--third)}
.key.hollow{background:none;border:2px solid var(--accent)}.key.hollow.second{border-color:var(--second)}
.key.square{border-radius:3px}
.key.stroke{width:0;height:14px;border-radius:0;border-left:2px solid var(--ink);background:none}
.key.stroke.far{border-left:2px dotted var(--muted)}.key.stroke.quiet{border-color:var(--third)}
.code{display:inline-block;white-space:nowrap;border-radius:5px;padding:0 7px;background:var(--bad-bg);color:var(--bad);
font-size:.93em;font-weight:500;margin-right:4px}.code.stable{background:var(--good-bg);color:var(--good)}
th button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer;text-align:inherit}
th button::after{content:"";display:inline-block;width:1em;text-align:center}
th[aria-sort=ascending] button::after{content:"↑"}th[aria-sort=descending] button::after{content:"↓"}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:3px}
.code.busy{background:var(--surface);color:var(--accent)}.code.asking{background:var(--surface);color:var(--muted)}
.progress{display:flex;height:9px;min-width:110px;border-radius:5px;background:var(--line);overflow:hidden;margin-top:6px}
.progress i{display:block;height:100%;background:var(--accent)}.progress .bad{background:var(--bad)}
.pages ul{margin:0 0 26px}.pages a[aria-current]{color:var(--ink);font-weight:600;text-decoration:none}
.choose{display:flex;flex-wrap:wrap;gap:12px 18px;align-items:end;margin:18px 0}.choose label{display:grid;font-size:14px;
color:var(--muted)}.choose input,.choose button{font:inherit;color:var(--ink);background:var(--bg);border:1px solid var(--base);
border-radius:7px;padding:6px 11px;min-width:0}.choose button{background:var(--accent);color:var(--bg);border-color:var(--accent)}
.tiles+.scroll,.tiles+section{margin-top:30px}
.skip{position:absolute;left:-9999px}.skip:focus{left:16px;top:8px;background:var(--bg);padding:6px 12px}
.small{font-size:13.5px;margin:4px 0 0}.after{margin-top:14px}
.fleet{max-width:1240px}
.courses{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:18px 28px;margin:10px 0 26px}
details{margin-top:14px}
summary{cursor:pointer;color:var(--accent);font-size:15px}
details[open] summary{margin-bottom:10px}
dl.facts{display:grid;grid-template-columns:minmax(110px,auto) 1fr;gap:6px 24px;margin:0;font-size:15px}
dl.facts dt{color:var(--muted)}dl.facts dd{margin:0;overflow-wrap:anywhere}
ul.plain{padding-left:20px;margin:0 0 12px;max-width:84ch}ul.plain li{margin-bottom:4px}
details+ul.plain{margin-top:16px}
.why{display:grid;gap:14px;margin:14px 0 0;max-width:88ch}
.why dt{font-weight:600}.why dd{margin:2px 0 0;font-size:15px}
.time{display:flex;height:16px;border-radius:8px;overflow:hidden;gap:2px;margin:14px 0 8px;background:var(--bg)}
.time span{background:var(--base)}.time .s-train{background:var(--accent)}.time .s-device{background:var(--second)}
footer{margin-top:64px;color:var(--muted);font-size:14px}
@media (max-width:860px){.tiles{grid-template-columns:repeat(2,1fr)}.charts,.courses{grid-template-columns:minmax(0,1fr)}}
@media (max-width:600px){body{font-size:15.5px}.page{padding:24px 16px 48px}
section{margin-top:40px;padding-top:22px}.tiles{gap:10px}
.tile{padding:13px 14px 14px}.c-kind{display:none}.layers .c-name{width:36%}.layers th,.layers td{font-size:13px;
padding-right:16px}th,td{padding-right:9px}table{font-size:13.5px}
.pair{grid-template-columns:1fr;gap:3px}.pair>:last-child{text-align:left;order:-1}
dl.facts{grid-template-columns:1fr;gap:0}dl.facts dd{margin-bottom:8px}.verdict{display:block}}
@media print{:root{color-scheme:light}body{font-size:11pt}.page{max-width:none;padding:0}nav{display:none}
section{break-inside:auto;margin-top:24px;padding-top:14px}figure,tr,.tile{break-inside:avoid}h2,h3{break-after:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""

#: The light colours by name, for what is drawn outside of a page.
LIGHT: dict[str, str] = dict(re.findall(r"--([\w-]+):(#[0-9a-f]+)", STYLE[: STYLE.index("@media")]))
