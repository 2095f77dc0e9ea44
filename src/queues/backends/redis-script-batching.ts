import type { Redis } from 'ioredis';

/** BullMQ's scripts that are called many times per turn of the event loop: fetch a job, end one and fetch the next, add one. */
const BATCHED: ReadonlySet<string> = new Set(['moveToActive', 'moveToFinished', 'addStandardJob', 'addPrioritizedJob']);

/**
 * Most calls per batch. Redis is blocked while a batch runs: about 80 µs per call, plus removing expired jobs
 * (`jobRetention`) and promoting delayed ones.
 */
export const MAX_BATCH_SIZE = 50;

type Argument = string | number | Buffer | null | undefined;
type Script = (args: readonly Argument[]) => Promise<unknown>;
/** ioredis calls it on the client and on pipelines. */
type Command = (this: unknown, args: readonly Argument[]) => Promise<unknown>;

interface Call {
  args: readonly Argument[];
  resolve: (answer: unknown) => void;
  reject: (error: unknown) => void;
}

/**
 * Batches the script calls of one turn of the event loop into one command, which runs the script once per call, in order.
 * Most of a command's cost in this process is its arguments: BullMQ's scripts have more than twenty, nearly all of them
 * the same for each job, and a batch sends those once.
 *
 * Each call resolves or rejects on its own. For a single Redis only: in a cluster the calls may be for different nodes.
 */
export function batchScripts(client: Redis): Redis {
  const define = client.defineCommand.bind(client);
  const commands = client as unknown as Record<string, Command>;
  const defineCommand: Redis['defineCommand'] = (name, definition) => {
    define(name, definition);
    // BullMQ adds its version to a script's name.
    if (!BATCHED.has(name.split(':')[0]!)) return;
    const batchName = `${name}:batch`;
    define(batchName, { ...definition, lua: forEachCall(definition.lua) });
    const single = commands[name]!;
    const batcher = new ScriptBatcher(single.bind(client), commands[batchName]!.bind(client));
    commands[name] = function (this: unknown, args) {
      return this === client ? batcher.call(args) : single.call(this, args);
    };
  };
  return Object.assign(client, { defineCommand });
}

class ScriptBatcher {
  readonly #runOne: Script;
  readonly #runEach: Script;
  #pending: Call[] = [];

  constructor(runOne: Script, runEach: Script) {
    this.#runOne = runOne;
    this.#runEach = runEach;
  }

  call(args: readonly Argument[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#pending.length > 0 && this.#pending[0]!.args.length !== args.length) this.#send();
      // Sent at the end of this turn: the other calls of the batch are made during it.
      if (this.#pending.length === 0) process.nextTick(() => this.#send());
      this.#pending.push({ args, resolve, reject });
      if (this.#pending.length === MAX_BATCH_SIZE) this.#send();
    });
  }

  #send(): void {
    const calls = this.#pending;
    this.#pending = [];
    const [first, ...others] = calls;
    if (first === undefined) return;
    if (others.length === 0) this.#runOne(first.args).then(first.resolve, first.reject);
    else this.#sendBatch(calls);
  }

  #sendBatch(calls: readonly Call[]): void {
    const settle = (answers: unknown) =>
      calls.forEach(({ resolve, reject }, position) => {
        const answer = (answers as unknown[])[position];
        if (answer instanceof Error) reject(answer);
        else resolve(answer);
      });
    this.#runEach(batchArguments(calls)).then(settle, (error: unknown) => {
      for (const { reject } of calls) reject(error);
    });
  }
}

/**
 * All arguments of the first call, then of each further call those that differ between calls, and last the layout: the
 * number of calls, the arguments per call, and the positions that differ.
 */
function batchArguments(calls: readonly Call[]): Argument[] {
  const [first, ...others] = calls.map(({ args }) => args);
  const positions = [...first!.keys()].filter((position) => others.some((args) => args[position] !== first![position]));
  const differences = others.flatMap((args) => positions.map((position) => args[position]));
  const layout = [calls.length, first!.length, ...positions.map((position) => position + 1)];
  return [...first!, ...differences, layout.join(' ')];
}

/** The script that runs another one for each call of {@link batchArguments}. */
function forEachCall(script: string): string {
  return `
local function run(KEYS, ARGV)
${script}
end

local layout = {}
for number in string.gmatch(ARGV[#ARGV], '%d+') do layout[#layout + 1] = tonumber(number) end
local calls, length = layout[1], layout[2]

local arguments = {}
for position = 1, length - #KEYS do arguments[position] = ARGV[position] end

local answers, read = {}, length - #KEYS
for call = 1, calls do
  if call > 1 then
    for entry = 3, #layout do
      read = read + 1
      local position = layout[entry]
      if position <= #KEYS then KEYS[position] = ARGV[read] else arguments[position - #KEYS] = ARGV[read] end
    end
  end
  local succeeded, answer = pcall(run, KEYS, arguments)
  if not succeeded and type(answer) == 'string' then answer = { err = answer } end
  if answer == nil then answer = false end
  answers[call] = answer
end
return answers`;
}
