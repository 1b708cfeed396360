// Streams one answer and one error from a router: node stream.js PROTO ADDRESS. Prints JSON lines.
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [proto, address] = process.argv.slice(2);
const options = { keepCase: true, enums: String, longs: Number, defaults: false, oneofs: true };
const { Baton } = grpc.loadPackageDefinition(loader.loadSync(proto, options)).baton.v1;
const client = new Baton(address, grpc.credentials.createInsecure());
const say = (value) => console.log(JSON.stringify(value));

function generate(text, done) {
  const metadata = new grpc.Metadata();
  metadata.set("x-baton-tenant", "node");
  const request = { prompt: { text }, sampling: { max_tokens: 3, temperature: 0 } };
  const call = client.Generate(request, metadata, { deadline: Date.now() + 20000 });
  call.on("data", (message) => say(message));
  // What ends every call, well or not, and comes last.
  call.on("error", () => {});
  call.on("status", ({ code, details }) => done({ code, details }));
}

generate("one two three four", (first) => {
  say(first);
  generate("refused", (second) => {
    say(second);
    client.close();
  });
});
