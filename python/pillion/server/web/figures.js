// ---- figures ----

function statsNode({ usage = {}, timings = {}, speculation = {} }) {
  const shares = speculation.acceptance_by_position ?? [];
  const speed = timings.predicted_per_second;
  const parts = speed ? [`${whole.format(speed)} tokens/s`] : [];
  if (speculation.drafted) {
    parts.push(`${speculation.accepted} of ${plural(speculation.drafted, "draft")} accepted`);
  }
  const words = parts.join(" · ") || plural(usage.completion_tokens ?? 0, "token");
  const summary = el("summary", {}, shares.length ? chartOf(shares, true) : null, words);
  const body = el("div", { class: "stats-body" }, shares.length ? chartFigure(shares) : null,
    figureList({ usage, timings, speculation }));
  return el("details", { class: "stats" }, summary, body);
}

function figureList({ usage, timings, speculation }) {
  const cached = usage.prompt_tokens_details?.cached_tokens ?? timings.cache_n;
  const rate = (value) => (value ? `${whole.format(value)} tokens/s` : null);
  const rows = [
    ["Writing", rate(timings.predicted_per_second)],
    ["Reading", rate(timings.prompt_per_second)],
    ["Prompt", usage.prompt_tokens && plural(usage.prompt_tokens, "token")],
    ["of which cached", cached !== undefined ? plural(cached, "token") : null],
    ["Answer", usage.completion_tokens && plural(usage.completion_tokens, "token")],
    ["Accepted drafts", speculation.drafted ? percent(speculation.acceptance) : null],
    ["Tokens a round", speculation.mean_tokens_per_round?.toFixed(2)],
    ["Forced by the form", speculation.forced ? plural(speculation.forced, "token") : null],
    ["Drafter", speculation.reason || null],
  ];
  const cells = rows.filter(([, value]) => value).flatMap(([name, value]) =>
    [el("dt", {}, name), el("dd", {}, value)]);
  return el("dl", {}, ...cells);
}

const inWords = (shares) =>
  shares.map((share, i) => `position ${i + 1}: ${percent(share)}`).join(", ");

function chartFigure(shares) {
  return el("figure", {}, el("figcaption", {}, "Accepted, by position of the draft"),
    chartOf(shares, false));
}

/** Bars; small: a sketch without words, else with numbers and a text for screen readers. */
function chartOf(shares, isSmall) {
  const [step, width, height] = isSmall ? [8, 5, 20] : [44, 26, 80];
  const top = isSmall ? 0 : 18;
  const total = [Math.max(shares.length * step, step), height + (isSmall ? 0 : 38)];
  const named = isSmall ? { "aria-hidden": "true" }
    : { class: "chart", role: "img", "aria-label": `Accepted drafts: ${inWords(shares)}` };
  const chart = svg("svg", { viewBox: `0 0 ${total[0]} ${total[1]}`, ...named });
  shares.forEach((share, i) => {
    const tall = Math.max(share * height, 1);
    const x = i * step + (step - width) / 2;
    const bar = { class: "bar", x, y: top + height - tall, width, height: tall };
    const track = { ...bar, class: "track", y: top, height };
    const rx = isSmall ? 1 : 3;
    chart.append(svg("rect", { ...track, rx }), svg("rect", { ...bar, rx }));
    if (isSmall) return;
    const middle = { x: i * step + step / 2, "text-anchor": "middle" };
    chart.append(svg("text", { ...middle, y: bar.y - 5 }, percent(share)),
      svg("text", { ...middle, y: top + height + 15, class: "pos" }, String(i + 1)));
  });
  if (!isSmall) chart.append(svg("path", { class: "base", d: `M0 ${top + height}.5H${total[0]}` }));
  return chart;
}
