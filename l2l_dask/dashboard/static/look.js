// Light or dark, before anything is drawn: as the reader chose, or else as the system has it (the style sheet).
"use strict";
{
  document.documentElement.classList.toggle("framed", window.self !== window.top);
  let chosen = null;
  try {
    chosen = localStorage.getItem("l2l-look");
  } catch {
    // In a frame of another site a browser may keep nothing.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.look = chosen;

  // Bokeh draws its widgets in shadow trees with colours of their own: each tree gets our few rules too.
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    .bk-input, select.bk-input, textarea.bk-input { background-color: var(--field); color: var(--ink);
      border-color: var(--line); }
    .bk-input:focus { outline: 2px solid var(--accent); }
    .bk-btn-default, .bk-btn-light { background-color: var(--field); color: var(--ink); border-color: var(--line); }
    .bk-btn-default:hover, .bk-btn-default.bk-active { background-color: var(--raised); border-color: var(--quiet); }
    .bk-btn[disabled], .bk-btn-default[disabled] { background-color: transparent; color: var(--quiet);
      border-color: var(--line); opacity: .7; }
    .bk-btn:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
    .bk-tab.bk-active, .bk-tab:hover { background-color: var(--raised); color: var(--ink); border-color: var(--line); }
    .choices__inner, .choices__list--dropdown, .choices__input, .choices__list { background-color: var(--field);
      color: var(--ink); border-color: var(--line); }
    .choices__list--dropdown .choices__item--selectable.is-highlighted { background-color: var(--raised); }
    .slick-header-column, .slick-header-columns, .slick-header { background: var(--raised) !important;
      color: var(--ink); border-color: var(--line); }
    .slick-cell, .slick-row, .grid-canvas, .slick-viewport, .bk-data-table { background-color: var(--paper);
      color: var(--ink); border-color: var(--line); }
    .slick-row.odd .slick-cell { background-color: var(--raised); }
    .slick-cell.selected, .slick-row .slick-cell.selected { background-color: var(--chosen); }
    :host(.bk-Legend) { background-color: color-mix(in srgb, var(--paper) 80%, transparent) !important; }
    :host(.bk-Legend) .bk-label, :host(.bk-Legend) .bk-title { color: var(--ink) !important; }
    .bk-tooltip-content, :host(.bk-Tooltip) { --background-color: var(--paper); }
    :host(.bk-Menu) { --background-color: var(--field); --hover-color: var(--raised); --border-color: var(--line); }
    .bk-clearfix { font-size: 14px; line-height: 1.5; }
    a { color: var(--link); }
    table { border-collapse: collapse; }
    td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }
    td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
    th { border-bottom: 1px solid var(--line); font-weight: 600; }
    pre { background: var(--raised); padding: .6rem; overflow-x: auto; font-size: 12px; white-space: pre-wrap; }
    .quiet { color: var(--quiet); }
    .problem { background: var(--alarm); color: var(--ink); border-left: 4px solid #D55E00; padding: .6rem 1rem;
      margin: .5rem 0; overflow-wrap: anywhere; }
    .state { font-weight: 600; }
    summary { cursor: pointer; }
  `);
  const attach = Element.prototype.attachShadow;
  Element.prototype.attachShadow = function (options) {
    const root = attach.call(this, options);
    root.adoptedStyleSheets = [sheet];
    return root;
  };
}
