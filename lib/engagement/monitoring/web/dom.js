// Small helpers. Text from content is only ever set as text.

export const byId = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// Changing only what differs keeps a selection, and a screen reader's place, where they are.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function addClass(node, className) {
  if (node.className !== className) node.className = className;
}
