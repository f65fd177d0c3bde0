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

/** Return the address of the picture of an element. */
export function frameAddress(video, n, element, size) {
  return `/frame?${new URLSearchParams({ video, n, element, size })}`;
}
