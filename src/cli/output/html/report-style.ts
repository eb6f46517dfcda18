/** The style of the report, as it stands in the page. */
export const REPORT_STYLE = `
:root { color-scheme: light dark; --ground: #fff; --panel: #f5f7fa; --line: #d8dde5; --ink: #16202e; --soft: #56616f; --accent: #2457b8;
  --exact: #2f6fde; --lowrank: #0f9d7a; --equivalent: #8a4fd3; --residual: #c77700; --own: #b9bfc9; --tensors: #9dbdf2; --stripe-ground: #dfe3e9; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161d; --panel: #1b212b; --line: #333c4a; --ink: #e8ecf2; --soft: #9aa6b6; --accent: #8ab4ff;
  --exact: #4c86ea; --lowrank: #17b18b; --equivalent: #a473e6; --residual: #dd9122; --own: #4a5362; --tensors: #3a5585; --stripe-ground: #39424f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", "Noto Sans", sans-serif; }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; display: flex; flex-wrap: wrap; gap: 0 20px; align-items: baseline; justify-content: space-between; }
main { padding-bottom: 48px; }
h1 { font-size: 1.5rem; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.15rem; margin: 0 0 6px; }
main > section { margin-top: 40px; }
p { margin: 0 0 8px; }
a { color: var(--accent); }
.lead { font-size: 1.25rem; line-height: 1.45; max-width: 46em; margin: 18px 0 20px; }
.note { color: var(--soft); max-width: 70em; }
.note b { color: var(--ink); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(235px, 1fr)); gap: 14px; margin-bottom: 16px; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; font-size: 0.92rem; }
.card h2 { font-size: 0.85rem; font-weight: 600; color: var(--soft); margin: 0; }
.card p:last-child { margin: 0; }
.figure { font-size: 1.75rem; font-weight: 650; line-height: 1.25; letter-spacing: -0.02em; margin: 2px 0 4px; }
.figure small { font-size: 0.95rem; font-weight: 400; letter-spacing: 0; color: var(--soft); }
.scripted { display: block; margin-top: 6px; }
.scripted[hidden] { display: none; }
input, select { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--line); border-radius: 5px; padding: 1px 4px; }
input[type=number] { width: 5.2em; }
.legend { list-style: none; padding: 0; margin: 0 0 10px; display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 0.88rem; }
.legend li { display: flex; gap: 7px; align-items: center; }
.legend svg { flex: none; }
.map { display: flex; margin: 6px 0 10px; }
.scroll { overflow-x: auto; flex: 1; min-width: 0; }
.grid { width: max-content; cursor: pointer; padding: 0 3px 3px 3px; }
.grid:focus { outline: none; }
.grid:focus-visible svg { outline: 2px solid var(--accent); outline-offset: 1px; }
svg { display: block; overflow: visible; }
svg text { fill: var(--ink); font-size: 12px; dominant-baseline: central; }
.names { flex: none; padding-right: 8px; overflow: hidden; }
.names text { text-anchor: end; }
svg text.layer { fill: var(--soft); font-size: 11px; text-anchor: middle; dominant-baseline: auto; }
svg text.letter { fill: #fff; font-size: 10px; font-weight: 600; text-anchor: middle; pointer-events: none; }
svg text.number { font-size: 11px; text-anchor: middle; pointer-events: none; }
svg text.number.dark { fill: #fff; }
.way.exact { fill: var(--exact); } .way.lowrank { fill: var(--lowrank); } .way.equivalent { fill: var(--equivalent); } .way.residual { fill: var(--residual); } .way.own { fill: var(--own); } .way.tensors { fill: var(--tensors); }
.stripe-ground { fill: var(--stripe-ground); } .stripe.lowrank { fill: var(--lowrank); } .stripe.equivalent { fill: var(--equivalent); } .stripe.residual { fill: var(--residual); }
.interval .axis { stroke: var(--line); stroke-width: 2; } .interval .range { stroke: var(--equivalent); opacity: 0.55; } .interval .before { stroke: var(--soft); } .interval .after { fill: var(--equivalent); }
.shade { fill: var(--exact); }
.cursor { fill: none; stroke: var(--ink); stroke-width: 2.5; pointer-events: none; }
#map-same rect { fill: none; stroke: var(--ink); stroke-width: 1.2; pointer-events: none; }
.choose { display: grid; grid-template-columns: minmax(0, 1fr) 370px; gap: 20px; align-items: start; }
.details { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; font-size: 0.9rem; overflow-wrap: anywhere;
  position: sticky; top: 12px; max-height: calc(100vh - 24px); overflow-y: auto; }
.details:empty::before { content: "Nothing is chosen."; color: var(--soft); }
.details h3 { margin: 0 0 4px; font-size: 1rem; }
.details dl { display: grid; grid-template-columns: 8.5em 1fr; gap: 2px 12px; margin: 6px 0; }
.details dt { color: var(--soft); }
.details dd { margin: 0; }
code { font: 0.9em ui-monospace, "Cascadia Mono", Menlo, monospace; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { text-align: left; padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--soft); font-weight: 500; white-space: nowrap; }
tbody th { font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.passed { color: var(--lowrank); font-weight: 600; }
.failed { color: #d3362d; font-weight: 600; }
@media (max-width: 999px) { .choose { display: block; } .details { top: auto; bottom: 10px; max-height: 42vh; box-shadow: 0 2px 14px rgb(0 0 0 / 0.2); } .details:empty { display: none; } }
@media (max-width: 560px) { header, main { padding-left: 14px; padding-right: 14px; } .lead { font-size: 1.1rem; } .names { width: 96px; } .names text { font-size: 11px; } .details dl { grid-template-columns: 1fr; } .details dd { margin-bottom: 4px; } }
@media print { body { font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; } .scroll { overflow: visible; } .scripted, .details { display: none; } .card, tr { break-inside: avoid; } main > section { margin-top: 20px; } }
`;
