// Asks the server about a text, and draws what it says. Texts and labels are only ever set as text, never as HTML.

const MAX_BARS = 10; // of more classes, the most probable
const MAX_WORDS = 5; // in each of the two lists

const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const at = (id) => document.getElementById(id);
const form = at("question");
const button = form.querySelector("button");
let asking = new AbortController();

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask(at("text").value);
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

// First the answer, which takes one pass of the model, and then the reasons, which take many.
async function ask(text) {
  asking.abort(); // whoever asks again no longer waits for the last answer
  asking = new AbortController();
  const { signal } = asking;
  for (const id of ["error", "answer", "explanation", "terminal"]) at(id).hidden = true;
  button.setAttribute("aria-busy", "true");
  try {
    showCommand(text);
    showAnswer(await post("predict", text, signal));
    showExplanation(await post("explain", text, signal));
  } catch (error) {
    if (signal.aborted) return;
    at("error").textContent = error.message;
    at("error").hidden = false;
  }
  button.removeAttribute("aria-busy");
}

async function post(route, text, signal) {
  let response;
  try {
    response = await fetch(route, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ text }),
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Error("The server cannot be reached. Is it still running?");
  }
  const answer = await response.json().catch(() => ({ error: `The server answered with status ${response.status}.` }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// A class with its score, or labels, or a number.
function showAnswer({ label, score, labels = [label], probabilities = {}, value }) {
  at("label").textContent = value === undefined ? labels.join(", ") || "no label" : number.format(value);
  at("score").textContent = score === undefined ? "" : percent.format(score);
  const shares = Object.entries(probabilities);
  const shown = shares.length > MAX_BARS ? shares.sort((a, b) => b[1] - a[1]).slice(0, MAX_BARS) : shares;
  const bars = shown.map(([name, share]) => {
    const bar = element("span", "bar");
    bar.style.width = `${100 * share}%`;
    const track = element("span", "track");
    track.setAttribute("aria-hidden", "true");
    track.append(bar);
    const line = element("li", labels.includes(name) ? "best" : "");
    line.append(element("span", "name", name), track, element("span", "share", percent.format(share)));
    return line;
  });
  if (shares.length > shown.length) bars.push(element("li", "muted", `and ${shares.length - shown.length} more`));
  at("bars").replaceChildren(...bars);
  at("bars").hidden = !bars.length;
  at("answer").hidden = false;
}

function showExplanation({ label, explained = label, value, pieces }) {
  const shown = value === undefined ? percent : number;
  const strongest = Math.max(1e-9, ...pieces.map(({ effect }) => Math.abs(effect ?? 0)));
  const words = pieces.filter(({ effect }) => effect !== null);
  if (!words.length) return; // no words, no reasons
  const read = { from: pieces.indexOf(words[0]), to: pieces.indexOf(words.at(-1)) };
  const isUnread = ({ text }, place) => (place < read.from || place > read.to) && /\S/.test(text);
  at("pieces").replaceChildren(...pieces.map((piece, place) => drawn(piece, strongest, isUnread(piece, place), shown)));
  at("unread").hidden = !pieces.some(isUnread);
  at("of-what").textContent = value === undefined ? `“${explained}”` : "a larger number";
  at("then").textContent =
    value === undefined
      ? `the share is what the model then gives to “${explained}”`
      : "the number is what the model then gives the text";
  list("for", words.filter(({ effect }) => effect > 0).sort((a, b) => b.effect - a.effect), shown);
  list("against", words.filter(({ effect }) => effect < 0).sort((a, b) => a.effect - b.effect), shown);
  at("explanation").hidden = false;
}

function drawn({ text, effect, score_without }, strongest, unread, shown) {
  if (effect === null) return unread ? element("span", "unread", text) : document.createTextNode(text);
  const mark = element("mark", effect > 0 ? "for" : "against", text);
  mark.style.setProperty("--weight", Math.abs(effect) / strongest);
  mark.title = `without it: ${shown.format(score_without)}`;
  return mark;
}

function list(id, words, shown) {
  const lines = words
    .slice(0, MAX_WORDS)
    .map(({ text, score_without }) => element("li", "", `${text} (without it ${shown.format(score_without)})`));
  at(id).replaceChildren(...(lines.length ? lines : [element("li", "muted", "nothing")]));
}

function showCommand(text) {
  const body = JSON.stringify({ text }).replaceAll("'", "'\\''");
  const url = new URL("predict", document.baseURI);
  at("command").textContent = `curl -s '${url.origin}${url.pathname}' -d '${body}'`;
  at("terminal").hidden = false;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}
