// Asks taplo's language server, which is what Even Better TOML runs in an editor, about a file.
//   node ask.mjs FOLDER_WITH_NODE_MODULES FILE '[["completion", line, character], ["hover", line, character]]'
// Lines and characters count from 0. Prints the answers as a JSON list.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const [packages, file, questions] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];
const { TaploLsp } = createRequire(path.join(packages, "any.js"))("@taplo/lsp");

const waiting = new Map();
let asked = 0;
const environment = {
  cwd: () => "/",
  envVar: () => "",
  envVars: () => [],
  fetch: { fetch: () => Promise.reject(new Error("nothing is fetched here")), Headers, Request, Response },
  findConfigFile: () => undefined,
  glob: () => [],
  isAbsolute: (name) => path.isAbsolute(name),
  now: () => new Date(),
  readFile: (name) => fs.promises.readFile(name),
  stderr: async (bytes) => bytes.length,
  stdErrAtty: () => false,
  stdin: async () => new Uint8Array(),
  stdout: async (bytes) => bytes.length,
  urlToFilePath: (url) => fileURLToPath(url),
  writeFile: () => Promise.reject(new Error("nothing is written here")),
};
const server = await TaploLsp.initialize(environment, {
  onMessage(message) {
    if (message.id !== undefined && message.method) {
      const result = message.method === "workspace/configuration" ? [null] : null; // an editor's own settings
      server.send({ jsonrpc: "2.0", id: message.id, result });
    } else if (message.id !== undefined) {
      waiting.get(message.id)(message.result);
    }
  },
});
const tell = (method, params) => server.send({ jsonrpc: "2.0", method, params });
const ask = (method, params) =>
  new Promise((answered) => {
    waiting.set(++asked, answered);
    server.send({ jsonrpc: "2.0", id: asked, method, params });
  });

const root = pathToFileURL("/").href;
const uri = pathToFileURL(file).href;
await ask("initialize", { processId: null, rootUri: root, capabilities: {}, workspaceFolders: [{ uri: root, name: "root" }] });
tell("initialized", {});
const text = fs.readFileSync(file, "utf8");
tell("textDocument/didOpen", { textDocument: { uri, languageId: "toml", version: 1, text } });

const answers = [];
for (const [what, line, character] of questions) {
  let answer = null;
  for (let tries = 0; tries < 100 && !answer?.length && !answer?.contents; tries++) {
    // Until the server has read the schema, it answers with nothing.
    if (tries) await new Promise((over) => setTimeout(over, 100));
    answer = await ask(`textDocument/${what}`, { textDocument: { uri }, position: { line, character } });
  }
  answers.push(answer);
}
console.log(JSON.stringify(answers));
process.exit(0);
