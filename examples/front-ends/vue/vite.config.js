import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

// while you develop: the application's routes and the streams, as one origin
const server = { port: 3002, proxy: { "/api": "http://127.0.0.1:3000", "/streams": "http://127.0.0.1:8080" } };

export default defineConfig({ plugins: [vue()], server });
