// Draws every figure.chart from the JSON inside it (see nightshift/app/charts.py), in the colours of app.css.
"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (value, digits) =>
    value === null || value === undefined ? "-" : Number(value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const shown = (chart, value) => (chart.percent ? `${short(100 * value, 1)} %` : short(value, chart.digits));
  const WEEKDAY = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  const dayLabel = (day) => (/^\d{4}-\d\d-\d\d$/.test(day) ? `${day} ${WEEKDAY[new Date(`${day}T00:00Z`).getUTCDay()]}` : day);

  const look = () => ({
    ink: colour("--ink"), soft: colour("--soft"), line: colour("--line"), grid: colour("--grid"), panel: colour("--panel"),
    band: colour("--band"), series: [1, 2, 3, 4, 5, 6].map((n) => colour(`--series-${n}`)),
    heat: ["--heat-low", "--heat-none", "--heat-high"].map(colour), bad: colour("--bad"),
  });

  const base = (chart, l) => ({
    animation: false,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: l.ink },
    aria: { enabled: true, label: { description: chart.label } },
    grid: { left: 8, right: 16, top: chart.legend ? (chart.narrow && chart.series.length > 2 ? 56 : 34) : 14, bottom: 8, containLabel: true },
    legend: chart.legend
      ? { top: 0, left: 0, type: "plain", itemWidth: 18, itemHeight: 8, itemGap: 14, textStyle: { color: l.soft, fontSize: 12 }, data: chart.series.map((s) => s.name) }
      : undefined,
  });

  // renderMode richText: the tooltip is drawn in the SVG, without styles that the page's policy forbids.
  const tooltip = (l, extra) => ({
    renderMode: "richText", confine: true, backgroundColor: l.panel, borderColor: l.line, borderWidth: 1, padding: [6, 9],
    textStyle: { color: l.ink, fontSize: 12, fontFamily: getComputedStyle(document.body).fontFamily }, ...extra,
  });

  const axis = (l, extra) => ({
    axisLine: { lineStyle: { color: l.line } }, axisTick: { show: false }, splitLine: { show: false },
    axisLabel: { color: l.soft, fontSize: 11, hideOverlap: true }, nameTextStyle: { color: l.soft }, ...extra,
  });

  const valueAxis = (chart, l) => axis(l, {
    type: "value", scale: !chart.zero, min: chart.least ?? undefined, max: chart.most ?? undefined, axisLine: { show: false },
    splitLine: { lineStyle: { color: l.grid } },
    axisLabel: { color: l.soft, fontSize: 11, formatter: (value) => (chart.percent ? `${short(100 * value, 0)} %` : Number(value.toPrecision(4)).toLocaleString("en")) },
  });

  const marks = (chart, l) => (chart.marks?.length
    ? {
        silent: true, symbol: "none", lineStyle: { color: l.soft, type: "dashed", width: 1 },
        label: { color: l.soft, fontSize: 11, formatter: "{b}", position: "insideEndTop" },
        data: chart.marks.map((mark) => ({ yAxis: mark.y, name: mark.name })),
      }
    : undefined);

  // A band is two stacked lines: an invisible one at its lower end, and a filled one as high as the band.
  const bandSeries = (band, number, l) => {
    const height = band.high.map((high, i) => (high === null || band.low[i] === null ? null : high - band.low[i]));
    const hidden = { type: "line", stack: `band${number}`, stackStrategy: "all", symbol: "none", silent: true, tooltip: { show: false }, emphasis: { disabled: true }, lineStyle: { opacity: 0 }, z: 1 };
    return [
      { ...hidden, name: `${band.name} low`, data: band.low },
      { ...hidden, name: band.name, data: height, areaStyle: { color: l.band, opacity: 0.16 } },
    ];
  };

  const lines = (chart, l) => {
    const bands = (chart.bands ?? []).flatMap((band, number) => bandSeries(band, number, l));
    const series = chart.series.map((one, number) => ({
      name: one.name, type: chart.kind === "bars" ? "bar" : "line", stack: one.stack, data: one.values, z: 3, connectNulls: false,
      showSymbol: one.points || (number === 0 && one.values.length <= 90), showAllSymbol: true, symbol: "circle", symbolSize: 5, barMaxWidth: 26,
      color: l.series[one.colour ?? number], emphasis: { focus: "none" },
      lineStyle: { width: one.points ? 0 : 1.8, type: one.dashed ? "dashed" : "solid" }, markLine: number === 0 ? marks(chart, l) : undefined,
    }));
    const ofDay = (items) => {
      const at = items[0].dataIndex;
      const rows = chart.series.map((one) => `${one.name}  ${shown(chart, one.values[at])}`);
      const ranges = (chart.bands ?? []).map((band) => `${band.name}  ${shown(chart, band.low[at])} to ${shown(chart, band.high[at])}`);
      return [dayLabel(chart.days[at]), ...rows, ...ranges].join("\n");
    };
    return {
      ...base(chart, l), tooltip: tooltip(l, { trigger: "axis", axisPointer: { type: chart.kind === "bars" ? "shadow" : "line", lineStyle: { color: l.soft } }, formatter: ofDay }),
      xAxis: axis(l, { type: "category", data: chart.days, boundaryGap: chart.kind === "bars" }), yAxis: valueAxis(chart, l), series: [...bands, ...series],
    };
  };

  const scatter = (chart, l) => ({
    ...base(chart, l),
    tooltip: tooltip(l, { formatter: (item) => [item.seriesName, ...(item.data.note ?? [])].join("\n") }),
    xAxis: { ...valueAxis(chart, l), name: chart.x, nameLocation: "middle", nameGap: 26 }, yAxis: { ...valueAxis(chart, l) },
    grid: { left: 8, right: 16, top: 34, bottom: 26, containLabel: true },
    series: [
      { name: "perfect", type: "line", data: [[chart.least, chart.least], [chart.most, chart.most]], symbol: "none", silent: true, lineStyle: { color: l.soft, type: "dashed", width: 1 }, color: l.soft },
      ...chart.series.map((one, number) => ({ name: one.name, type: "line", color: l.series[one.colour ?? number], symbol: "circle", lineStyle: { width: 1.5 }, data: one.points.map((p) => ({ value: [p.x, p.y], symbolSize: 9, note: p.note })) })),
    ],
  });

  const heat = (chart, l) => ({
    ...base(chart, l),
    grid: { left: 8, right: 8, top: 8, bottom: 40, containLabel: true },
    tooltip: tooltip(l, { formatter: ({ value: [x, y], data }) => [`${chart.rows[y]}, ${dayLabel(chart.days[x])}`, data.note].join("\n") }),
    xAxis: axis(l, { type: "category", data: chart.days, splitArea: { show: false } }),
    yAxis: axis(l, { type: "category", data: chart.rows, inverse: true, triggerEvent: true, axisLabel: { color: l.ink, fontSize: 11, width: chart.labelWidth, overflow: "truncate", interval: 0 } }),
    visualMap: { min: -chart.most, max: chart.most, calculable: false, orient: "horizontal", left: 8, bottom: 0, itemHeight: 160, itemWidth: 10, text: [chart.highText, chart.lowText], textStyle: { color: l.soft, fontSize: 11 }, inRange: { color: l.heat } },
    series: [{ type: "heatmap", data: chart.cells.map(([x, y, value, note]) => ({ value: [x, y, value], note, itemStyle: { borderColor: Math.abs(value) > 1 ? l.ink : l.panel, borderWidth: Math.abs(value) <= 1 && (chart.narrow || chart.days.length > 90) ? 0 : 1 } })), emphasis: { itemStyle: { borderColor: l.ink, borderWidth: 2 } } }],
  });

  const KINDS = { lines, bars: lines, scatter, heat };
  const drawn = [];

  const option = (chart) => {
    const narrow = document.body.clientWidth < 640;
    return KINDS[chart.kind]({ ...chart, narrow, labelWidth: narrow ? 96 : 230 }, look());
  };

  const draw = (figure) => {
    const chart = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const host = figure.querySelector(".draw");
    host.style.height = `${chart.height}px`;
    const instance = window.echarts.init(host, null, { renderer: "svg", height: chart.height });
    instance.setOption(option(chart));
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", chart.label);
    if (chart.links) {
      instance.on("click", (event) => {
        const place = event.componentType === "yAxis" ? chart.rows.indexOf(event.value) : chart.kind === "heat" ? event.value[1] : event.dataIndex;
        if (chart.links[place]) window.location.assign(chart.links[place]);
      });
    }
    drawn.push([instance, chart]);
  };

  document.querySelectorAll("figure.chart").forEach(draw);
  document.addEventListener("theme", () => drawn.forEach(([instance, chart]) => instance.setOption(option(chart), true)));
  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => drawn.forEach(([instance, chart]) => {
      instance.resize();
      instance.setOption(option(chart), true);
    }), 120);
  });
})();
