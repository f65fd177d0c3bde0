// Questions to the server.

/** Return an answer; a question asked with the same `signal` ends when that is aborted. */
export async function ask(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(
    Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== ""),
  ).toString();
  let answer;
  try {
    answer = await fetch(`/api/${path}${query ? `?${query}` : ""}`, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer: is esv dashboard still running?");
  }
  if (answer.status === 401) throw new Error("Token needed: open the address with ?token=TOKEN again.");
  if (answer.status === 503) throw new Error("The server is busy: load the page again in a moment.");
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

/** Return the address of a picture: of an element (video, n, element, size), or of a frame near it (step, stride). */
export function frameAddress(parameters) {
  return `/frame?${new URLSearchParams(parameters)}`;
}

/** Return the address of the file of a video, and of its part that is the video. */
export function filmAddress(video, { start, end }) {
  const part = start === null && end === null ? "" : `#t=${start ?? 0}${end === null ? "" : `,${end}`}`;
  return `/media?${new URLSearchParams({ video })}${part}`;
}
