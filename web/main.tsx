import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { loadConfig } from "./config.ts";
import { SignIn } from "./sign-in.tsx";
import "./styles.css";

const container = document.getElementById("root");
if (container === null) throw new Error("The page has no #root.");
const root = createRoot(container);

loadConfig().then(
  (stage) =>
    root.render(
      <StrictMode>
        <SignIn stage={stage} />
      </StrictMode>,
    ),
  (error: unknown) =>
    root.render(
      <p className="fatal" role="alert">
        Axon cannot be reached: {error instanceof Error ? error.message : String(error)}. Reload the
        page once it runs.
      </p>,
    ),
);
