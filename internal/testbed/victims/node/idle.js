// A Node server that waits for a request that does not come, with its pool of
// threads waiting for work. Shows: nothing wrong.
const http = require("http");
const fs = require("fs");

const server = http.createServer((_, response) => response.end("ok\n"));
server.listen(0, "127.0.0.1", () => {
  fs.readFile(__filename, () => console.log("ready")); // starts the pool
});
