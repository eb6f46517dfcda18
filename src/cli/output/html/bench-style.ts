/** The style of bench's page, as it stands in it. */
export const BENCH_STYLE = `
:root { color-scheme: light dark; --ground: #fff; --panel: #f5f7fa; --line: #d8dde5; --ink: #16202e; --soft: #56616f; --c0: #2457b8; --c1: #c2620a; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161d; --panel: #1b212b; --line: #333c4a; --ink: #e8ecf2; --soft: #9aa6b6; --c0: #8ab4ff; --c1: #ffab5e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", "Noto Sans", sans-serif; }
header, main { max-width: 1160px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
main { padding-bottom: 48px; }
h1 { font-size: 1.5rem; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.15rem; margin: 36px 0 6px; }
h3 { font-size: 1rem; margin: 0 0 6px; }
p { margin: 0 0 8px; }
.note { color: var(--soft); max-width: 70em; }
.lead { font-size: 1.2rem; line-height: 1.45; max-width: 46em; margin: 16px 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 18px; }
.chart { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; min-width: 0; }
.legend { list-style: none; padding: 0; margin: 8px 0 0; display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 0.88rem; }
.legend li { display: flex; gap: 7px; align-items: center; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; }
svg text.x { text-anchor: middle; }
svg text.y { text-anchor: end; dominant-baseline: central; }
.rule { stroke: var(--line); }
.line { fill: none; stroke-width: 2; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); }
.dot.c0 { fill: var(--c0); } .dot.c1 { fill: var(--c1); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; }
tbody th { font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; text-align: right; }
tr.ratio td { color: var(--soft); }
.failed { color: #d3362d; font-weight: 600; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; overflow-x: auto; font-size: 0.85rem; }
@media print { body { font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; } .chart, tr { break-inside: avoid; } }
`;
