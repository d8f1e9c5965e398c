// A map of the names: rings of prefixes around the one that is open, and what lies below it.
// Rows are items in the order of their names, so that every prefix is a range of rows.
(function () {
  "use strict";
  const box = document.currentScript.closest(".names");
  const data = JSON.parse(box.querySelector(".names-data").textContent);
  const find = (name) => box.querySelector("." + name);
  const [chart, trail, list, search, told] =
    ["names-chart", "names-trail", "names-list", "names-search", "names-told"].map(find);
  const codes = data.codes.map((runs) => {
    const column = [];
    for (let at = 0; at < runs.length; at += 2) {
      for (let left = runs[at + 1]; left > 0; left--) column.push(runs[at]);
    }
    return column;
  });
  const total = data.titles.length, depth = codes.length, rings = 3, most = 300;
  const key = (node) => node.level + ":" + node.from;
  const labels = new Map();
  data.labels.forEach((level, at) => {
    for (let i = 0; i < level.length; i += 2) {
      labels.set(at + 1 + ":" + level[i], data.words[level[i + 1]]);
    }
  });
  const lower = data.titles.map((title) => title.toLocaleLowerCase());
  const root = { level: 0, from: 0, to: total };
  let open = root, hit = -1;

  function make(name, words, inside) {
    const made = document.createElement(name);
    if (words) made.className = words;
    if (inside !== undefined) made.textContent = inside;
    return made;
  }
  function children(node) {
    if (node.level >= depth || node.to - node.from <= 1) return [];
    const out = [], column = codes[node.level];
    for (let from = node.from; from < node.to; ) {
      let to = from + 1;
      while (to < node.to && column[to] === column[from]) to++;
      out.push({ level: node.level + 1, from, to });
      from = to;
    }
    return out;
  }
  // Levels at which nothing parts are passed through.
  function settle(node) {
    let inside = children(node);
    while (inside.length === 1) {
      node = inside[0];
      inside = children(node);
    }
    return node;
  }
  function named(row, length) {
    const said = [];
    for (let level = 0; level < length && codes[level][row] >= 0; level++) said.push(codes[level][row]);
    return said.join(" ");
  }
  const count = (node) => (node.to - node.from).toLocaleString() + (node.to - node.from === 1 ? " item" : " items");
  const popular = (node) => {
    let best = node.from;
    for (let row = node.from; row < node.to; row++) if (data.seen[row] > data.seen[best]) best = row;
    return data.titles[best];
  };
  const about = (node) => labels.get(key(node)) || popular(node);
  const describe = (node) =>
    node.level ? named(node.from, node.level) + " · " + count(node) + " · " + about(node) : "all · " + count(node);

  // A ring piece of a prefix, or of some of its groups, too thin to be drawn one by one.
  function arc(node, ring, parent) {
    const span = open.to - open.from, turn = 2 * Math.PI;
    const start = ((node.from - open.from) / span) * turn, end = ((node.to - open.from) / span) * turn;
    const inner = 62 + ring * 60, outer = inner + 58;
    const full = end - start > turn - 1e-6, stop = full ? end - 1e-4 : end;
    const at = (angle, r) => (Math.sin(angle) * r).toFixed(2) + " " + (-Math.cos(angle) * r).toFixed(2);
    const big = stop - start > Math.PI ? 1 : 0;
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", "M" + at(start, outer) + "A" + outer + " " + outer + " 0 " + big + " 1 " + at(stop, outer) +
      "L" + at(stop, inner) + "A" + inner + " " + inner + " 0 " + big + " 0 " + at(start, inner) + "Z");
    const hue = Math.round((360 * (node.from + node.to)) / (2 * total));
    path.style.fill = "hsl(" + hue + " 52% var(--names-" + ring + "))";
    if (hit >= node.from && hit < node.to) path.setAttribute("class", "hit");
    if (end - start < 0.04) path.style.strokeWidth = "0.25";
    path.onclick = () => go(parent || node);
    path.onpointerenter = () => { told.textContent = describe(parent || node); };
    chart.append(path);
    if (parent) {
      path.style.opacity = "0.55";
      return;
    }
    const code = codes[node.level - 1][node.from], words = code < 0 ? "end" : String(code);
    const across = Math.abs(Math.cos((start + stop) / 2)), wide = 7 * words.length + 4;
    if ((end - start) * (inner + outer) / 2 > across * wide + (1 - across) * 15) {
      const label = document.createElementNS("http://www.w3.org/2000/svg", "text");
      const middle = (start + stop) / 2, r = (inner + outer) / 2;
      label.setAttribute("x", (Math.sin(middle) * r).toFixed(1));
      label.setAttribute("y", (-Math.cos(middle) * r + 4).toFixed(1));
      label.textContent = words;
      chart.append(label);
    }
  }
  function draw() {
    chart.replaceChildren();
    const least = (open.to - open.from) / 720; // half a degree
    let above = [open];
    for (let ring = 0; ring < rings && above.length; ring++) {
      const drawn = [];
      for (const parent of above) {
        let thin = null;
        for (const node of children(parent)) {
          if (node.to - node.from < least) {
            if (thin) thin.to = node.to;
            else thin = { ...node };
            continue;
          }
          if (thin) arc(thin, ring, parent);
          thin = null;
          arc(node, ring);
          drawn.push(node);
        }
        if (thin) arc(thin, ring, parent);
      }
      above = drawn;
    }
    const middle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    middle.setAttribute("r", 58);
    middle.setAttribute("class", open.level ? "up" : "");
    middle.onclick = () => up();
    middle.onpointerenter = () => { told.textContent = describe(open); };
    chart.append(middle);
    [[open.level ? named(open.from, open.level) : "all", -4], [count(open), 14]].forEach(([words, y]) => {
      const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
      text.setAttribute("y", y);
      text.textContent = words;
      chart.append(text);
    });
  }
  function button(head, tail, act, share) {
    const item = make("li"), one = make("button");
    one.type = "button";
    one.append(make("b", "", head), make("span", "", tail));
    if (share !== undefined) one.style.setProperty("--share", (100 * share).toFixed(1) + "%");
    one.onclick = act;
    item.append(one);
    return item;
  }
  function fill() {
    trail.replaceChildren();
    for (let level = 0; level <= open.level; level++) {
      const node = within(open.from, level);
      const one = make("button", "", level ? String(codes[level - 1][open.from]) : "all");
      one.type = "button";
      one.title = describe(node);
      if (level === open.level) one.setAttribute("aria-current", "true");
      one.onclick = () => go(node);
      trail.append(one);
    }
    const inside = children(open);
    list.replaceChildren();
    // A prefix whose groups are single items is shown as its items.
    if (!inside.length || inside.length === open.to - open.from) {
      const rows = [];
      for (let row = open.from; row < open.to; row++) rows.push(row);
      rows.sort((a, b) => data.seen[b] - data.seen[a]);
      for (const row of rows.slice(0, most)) {
        const item = make("li", row === hit ? "leaf hit" : "leaf");
        item.append(make("b", "", named(row, depth)), make("span", "", data.titles[row]));
        list.append(item);
      }
      rest(rows.length);
    } else {
      inside.sort((a, b) => b.to - b.from - (a.to - a.from));
      for (const node of inside.slice(0, most)) {
        const code = codes[node.level - 1][node.from];
        list.append(button(code < 0 ? "end" : String(code), count(node) + " · " + about(node), () => go(node),
          (node.to - node.from) / (inside[0].to - inside[0].from)));
      }
      rest(inside.length);
    }
    list.scrollTop = 0;
    const chosen = list.querySelector(".hit");
    if (chosen) list.scrollTop = chosen.offsetTop - list.offsetTop - 40;
  }
  function rest(length) {
    if (length > most) list.append(make("li", "more", "… " + (length - most).toLocaleString() + " more"));
  }
  // The prefix of a length under which a row stands.
  function within(row, level) {
    let node = root;
    while (node.level < level) node = children(node).find((each) => row >= each.from && row < each.to) || { ...node, level: node.level + 1 };
    return node;
  }
  function show(node) {
    open = node;
    told.textContent = describe(open);
    const here = box.contains(document.activeElement);
    draw();
    fill();
    if (here) box.focus({ preventScroll: true }); // what had the focus may be gone
  }
  function go(node) {
    hit = -1;
    search.value = "";
    if (node.to - node.from === 1) {
      hit = node.from;
      node = holder(node.from);
    }
    show(settle(node));
  }
  // The smallest prefix of more than one item that holds a row.
  function holder(row) {
    let node = root;
    for (let level = 1; level <= depth; level++) {
      const next = within(row, level);
      if (next.to - next.from === 1) break;
      node = next;
    }
    return node;
  }
  function up() {
    if (!open.level) return;
    let node = within(open.from, open.level - 1);
    while (node.level && node.to - node.from === open.to - open.from) node = within(node.from, node.level - 1);
    go(node);
  }
  search.oninput = () => {
    const wanted = search.value.trim().toLocaleLowerCase();
    if (!wanted) return fill();
    list.replaceChildren();
    const rows = [];
    for (let row = 0; row < total; row++) if (lower[row].includes(wanted)) rows.push(row);
    rows.sort((a, b) => data.seen[b] - data.seen[a]);
    told.textContent = rows.length.toLocaleString() + (rows.length === 1 ? " title" : " titles") + " with “" + search.value.trim() + "”";
    for (const row of rows.slice(0, most)) {
      list.append(button(named(row, depth), data.titles[row], () => {
        hit = row;
        search.value = "";
        show(holder(row));
      }));
    }
    rest(rows.length);
  };
  box.onkeydown = (event) => {
    const all = [...list.querySelectorAll("button")];
    const at = all.indexOf(document.activeElement);
    if (event.key === "Escape" || (event.key === "Backspace" && event.target !== search)) {
      if (search.value) {
        search.value = "";
        fill();
      } else up();
    } else if (event.key === "ArrowDown" && all.length) all[Math.min(at + 1, all.length - 1)].focus();
    else if (event.key === "ArrowUp" && at >= 0) (at ? all[at - 1] : search).focus();
    else return;
    event.preventDefault();
  };
  show(settle(root));
})();
