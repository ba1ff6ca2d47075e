// The texts on the page whose contrast with what lies behind them is below `least`.
(least) => {
  const parse = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const over = (top, below) => {
    const alpha = top[3] ?? 1;
    return below.map((v, i) => top[i] * alpha + v * (1 - alpha));
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const layers = [];
    for (let n = node; n; n = n.parentElement) layers.unshift(parse(getComputedStyle(n).backgroundColor));
    return layers.reduce((below, top) => (top.length < 3 ? below : over(top, below)), [255, 255, 255]);
  };
  const poor = new Set();
  for (const node of document.querySelectorAll(".gradio-container *")) {
    const texts = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const seen = node.getClientRects().length && !node.closest("svg, :disabled, .st-spoken");
    if (!texts || !seen) continue;
    const below = behind(node);
    const text = over(parse(getComputedStyle(node).color), below);
    const [high, low] = [luminance(text), luminance(below)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < least) {
      poor.add(`${node.className || node.tagName} "${node.textContent.slice(0, 20)}" ${ratio.toFixed(2)}`);
    }
  }
  return [...poor];
}
