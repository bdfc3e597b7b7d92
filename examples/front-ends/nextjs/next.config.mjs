const streams = process.env.STREAMS ?? "http://127.0.0.1:8080"; // where the proxy is; a build fixes it

export default {
  // the streams on the application's own origin; in production a load balancer can do the same
  rewrites: async () => [{ source: "/streams/:path*", destination: `${streams}/streams/:path*` }],
};
