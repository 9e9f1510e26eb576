import { defineConfig } from "vite";

/** The package's entries, `axon/client` and `axon/react`, as one small file each. */
export default defineConfig({
  build: {
    lib: { entry: { client: "client.ts", react: "react.ts" }, formats: ["es"] },
    target: "es2023",
    minify: true,
    rollupOptions: { external: ["react"] },
  },
});
