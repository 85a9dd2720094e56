// Graphile Worker's side: `prepare`, `worker` or the commands of producer.py, of which this is the JavaScript version.
// The connection comes from libpq's variables. process.hrtime and Python's monotonic clock are one clock on Linux.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { performance } = require("node:perf_hooks");
const { setTimeout: sleep } = require("node:timers/promises");
const { makeWorkerUtils, run, runMigrations, Logger } = require("graphile-worker");

const WARM_UP = 20;
const SPACING_MS = [20, 50];
const CHUNK_MS = 100;
const CHUNK = 10_000; // jobs in one add_jobs call
const FLUSH_MS = 5; // Node has no shared memory with other programs: the count is written so often, not at each job

// "connectionString" must be given, or PGDATABASE set as here; only errors and warnings are logged.
const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});
const ticks = process.env.PEER_TICKS;
const cells = new BigUint64Array(2);
let dirty = false;

function flush(file) {
  if (!dirty) return;
  dirty = false;
  fs.writeSync(file, cells, 0, cells.byteLength, 0);
}

const taskList = {
  noop: () => {
    cells[0] += 1n;
    cells[1] = process.hrtime.bigint();
    dirty = true;
  },
  stamp: ({ number }) => {
    const began = process.hrtime.bigint();
    fs.appendFileSync(path.join(ticks, "stamps"), `${number} ${began}\n`);
  },
};

async function work() {
  const file = fs.openSync(path.join(ticks, `${process.pid}.ticks`), "w+");
  fs.writeSync(file, cells, 0, cells.byteLength, 0);
  const flusher = setInterval(flush, FLUSH_MS, file);
  const runner = await run({ logger, taskList, preset: { worker: JSON.parse(process.env.PEER_WORKER) } });
  await runner.promise;
  clearInterval(flusher);
  flush(file);
}

async function produce(utils, [command, ...numbers]) {
  const one = () => utils.addJob("noop", {});
  const stamp = (number) => utils.addJob("stamp", { number });
  const many = async (count) => {
    for (let start = 0; start < count; start += CHUNK) {
      const size = Math.min(CHUNK, count - start);
      await utils.addJobs(Array.from({ length: size }, () => ({ identifier: "noop", payload: {} })));
    }
  };
  const [first, seconds] = numbers.map(Number);
  if (command === "bulk") return bulk(many, first);
  if (command === "single") return single(one, first);
  if (command === "spaced") return spaced(stamp, first);
  if (command === "paced") return paced(many, first, seconds);
  throw new Error(`unknown command: ${command}`);
}

async function bulk(many, count) {
  const first = Math.min(WARM_UP, Math.floor(count / 2));
  await many(first);
  const began = performance.now();
  await many(count - first);
  return { enqueued: count, rate: (1000 * (count - first)) / (performance.now() - began) };
}

async function single(one, count) {
  for (let n = 0; n < WARM_UP; n++) await one();
  const began = performance.now();
  for (let n = 0; n < count; n++) await one();
  return { enqueued: WARM_UP + count, rate: (1000 * count) / (performance.now() - began) };
}

async function spaced(stamp, count) {
  const called = [];
  for (let number = -WARM_UP; number < count; number++) {
    await sleep(SPACING_MS[0] + Math.random() * (SPACING_MS[1] - SPACING_MS[0]));
    called.push(process.hrtime.bigint());
    await stamp(number);
  }
  return { called_ns: called.slice(WARM_UP) };
}

async function paced(many, rate, seconds) {
  let enqueued = 0;
  const began = performance.now();
  for (;;) {
    const past = performance.now() - began;
    if (past >= 1000 * seconds) return { enqueued };
    const due = Math.floor((rate * past) / 1000) - enqueued;
    if (due > 0) await many(due);
    enqueued += Math.max(0, due);
    await sleep(Math.max(0, CHUNK_MS - (performance.now() - began - past)));
  }
}

// Clock readings exceed what a JSON number of JavaScript holds: they are written as digits.
function json(answer) {
  return JSON.stringify(answer, (_, value) => (typeof value === "bigint" ? `${value}` : value));
}

async function main([command, ...rest]) {
  if (command === "prepare") return runMigrations({ logger });
  if (command === "worker") return work();
  const utils = await makeWorkerUtils({ logger });
  console.log(json(await produce(utils, [command, ...rest])));
  return utils.release();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
