// The lucide icons that the pages use; build.mjs puts them into one sprite.
export const ICONS = [
  "arrow-down", "arrow-up", "book-open", "chart-column", "check", "chevron-down", "chevron-left",
  "chevron-right", "circle-alert", "copy", "cpu", "download", "ellipsis", "file", "file-text",
  "git-branch", "image", "key-round", "keyboard", "link", "loader", "log-in", "log-out", "message-square",
  "monitor", "moon", "panel-left", "paperclip", "pencil", "pin", "pin-off", "play", "plus", "radio", "refresh-cw",
  "search", "settings-2", "square", "sun", "trash-2", "triangle-alert", "upload", "x", "zap",
];
