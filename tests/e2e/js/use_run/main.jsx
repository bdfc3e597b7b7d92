// A run as React state, in StrictMode; `show(url)` changes the URL, `show("gone")` takes the component away.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useRun } from "hatchet-stream-proxy/react";

window.rendered = 0;
window.snapshots = [];

function Run({ url }) {
  const run = useRun(url, { events: ["token", "step"] });
  window.rendered += 1;
  if (window.snapshots.at(-1) !== run) window.snapshots.push(run);
  return <p>{`${run.state} ${run.status} ${run.steps.answer?.text ?? ""}`.trim()}</p>;
}

function Page() {
  const [url, setUrl] = useState(null);
  window.show = setUrl;
  return url === "gone" ? <p>gone</p> : <Run url={url} />;
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
