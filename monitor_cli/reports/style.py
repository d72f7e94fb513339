"""How a report's page looks: on a phone, on a screen, on paper, light and dark. No fonts or pictures from elsewhere."""

STYLE = """
:root{color-scheme:light dark;--bg:#faf9f6;--panel:#fff;--ink:#1d2125;--soft:#59606a;--line:#e3dfd8;
--operational:#4c9a78;--warning:#bd8015;--critical:#c8432f;--unknown:#a9a49b;
--operational-ink:#22634a;--warning-ink:#7a5108;--critical-ink:#a5301f;--link:#1f5fa8}
@media (prefers-color-scheme:dark){:root{--bg:#131619;--panel:#1a1e22;--ink:#e9e7e2;--soft:#a6acb5;--line:#2e3338;
--operational:#4fa581;--warning:#dda53c;--critical:#e2604d;--unknown:#6d7278;
--operational-ink:#8bd3b3;--warning-ink:#f1c472;--critical-ink:#ff9a8c;--link:#8fbcf0}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:400 1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans",Helvetica,Arial,sans-serif;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
main{max-width:66rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1,h2,h3,p,dl,dd,figure{margin:0}
h1{font-size:2rem;line-height:1.15;font-weight:650;letter-spacing:-.02em}
h2{font-size:1.2rem;line-height:1.3;font-weight:620;letter-spacing:-.01em}
h3{font-size:.8rem;font-weight:600;color:var(--soft);margin:1.5rem 0 .35rem}
a{color:var(--link);text-underline-offset:.15em}
.over{font-size:.8rem;font-weight:600;color:var(--soft);margin-bottom:.35rem}
.when{color:var(--soft);margin-top:.5rem}
.soft,.code{color:var(--soft);font-weight:400}
.code{font-size:.9em;margin-left:.4em}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(10rem,1fr));gap:1rem 2rem;margin:2rem 0 0;
padding:1.25rem 0;border-top:1px solid var(--line);border-bottom:1px solid var(--line)}
.tiles dt{font-size:.8rem;color:var(--soft)}
.tiles dd{font-size:1.6rem;line-height:1.25;font-weight:620;letter-spacing:-.015em}
.tiles .small{font-size:.85rem;font-weight:400;letter-spacing:0;color:var(--soft)}
.tiles+.card{margin-top:1.75rem}
.notes+.card{margin-top:1.25rem}
.notes{margin:1.25rem 0 0;padding:.75rem 1rem;border-left:3px solid var(--warning);background:var(--panel);
font-size:.9rem}
.notes p+p{margin-top:.4rem}
.legend{display:flex;flex-wrap:wrap;gap:.4rem 1.4rem;margin:1.5rem 0 .75rem;padding:0;list-style:none;font-size:.85rem;
color:var(--soft)}
.legend li{display:flex;align-items:flex-end;gap:.45rem;line-height:1}
.legend svg{width:.6rem;height:1rem;display:block}
.card{background:var(--panel);border:1px solid var(--line);border-radius:.6rem;padding:1.25rem 1.4rem 1.4rem;
margin:0 0 1.1rem}
.top{display:flex;justify-content:space-between;align-items:baseline;gap:1rem;margin-bottom:.9rem}
.share{font-size:1.2rem;font-weight:620;white-space:nowrap}
.operational{color:var(--operational-ink)}.warning{color:var(--warning-ink)}.critical{color:var(--critical-ink)}
.timeline{display:block;width:100%;height:58px;overflow:hidden}
.timeline text{font-size:11px;fill:var(--soft)}
.c-operational{fill:var(--operational)}.c-warning{fill:var(--warning)}.c-critical{fill:var(--critical)}
.c-unknown{fill:var(--unknown)}
.tick{stroke:var(--line);stroke-width:1}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.7rem 1.5rem;margin-top:1rem}
.facts dt{font-size:.78rem;color:var(--soft)}
.facts dd{font-weight:560}
table{width:100%;border-collapse:collapse;font-size:.9rem}
caption{text-align:left;font-size:.8rem;font-weight:600;color:var(--soft);padding:1.4rem 0 .35rem}
th{font-size:.78rem;font-weight:500;color:var(--soft);text-align:left;vertical-align:bottom}
th,td{padding:.45rem 1rem .45rem 0;border-bottom:1px solid var(--line)}
td{vertical-align:top}
th:last-child,td:last-child{padding-right:0}
tbody tr:last-child td{border-bottom:0}
.n{text-align:right;white-space:nowrap}
.t{white-space:nowrap}
.w{min-width:11rem}
.head{min-width:8rem}.a{min-width:6rem}
.bar{display:block;width:6rem;height:.4rem;margin:.35rem 0 0 auto}
.bar .rail{fill:var(--line)}
footer{margin-top:2.5rem;padding-top:1rem;border-top:1px solid var(--line);font-size:.85rem;color:var(--soft)}
footer p+p{margin-top:.4rem}
@media (max-width:44rem){
main{padding:1.5rem 1rem 3rem}
h1{font-size:1.6rem}
.card{padding:1rem 1rem 1.1rem}
.tiles{grid-template-columns:1fr 1fr;gap:.9rem 1rem}.tiles dd{font-size:1.3rem}
.facts{grid-template-columns:1fr 1fr}
table,tbody,tr,td{display:block}
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
caption{display:block}
tr{padding:.6rem 0;border-bottom:1px solid var(--line)}
tbody tr:last-child{border-bottom:0}
td,td.n{display:flex;justify-content:space-between;gap:1rem;padding:.12rem 0;border:0;text-align:right;
white-space:normal;min-width:0}
td::before{content:attr(data-label);color:var(--soft);text-align:left;flex:none;max-width:45%}
td.head{display:block;text-align:left;font-weight:600}td.head::before{content:none}
td:empty,td.wide{display:none}}
@media print{
:root{--bg:#fff;--panel:#fff;--ink:#000;--soft:#444;--line:#bbb;--operational:#4c9a78;--warning:#bd8015;
--critical:#c8432f;--unknown:#999;--operational-ink:#1d5540;--warning-ink:#6b4706;--critical-ink:#8f2819;--link:#000}
body{font-size:10pt}main{max-width:none;padding:0}
.card{border-radius:0;border-width:1px 0 0;padding:.8rem 0}
th,td{padding-right:.6rem}.head{min-width:6.5rem}.bar{width:4.5rem}
tr,.top,.timeline,.facts{break-inside:avoid}
.top,.timeline,.facts,caption,thead{break-after:avoid}
svg{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
