import type { Redis } from 'ioredis';

/**
 * BullMQ's scripts that are called many times in one turn of the event loop: those that take up a job, that end one and
 * take up the next, and that add one.
 */
const BATCHED: ReadonlySet<string> = new Set(['moveToActive', 'moveToFinished', 'addStandardJob', 'addPrioritizedJob']);

/**
 * Most calls of one command. Redis does nothing else while it carries them out: some 80 µs each, and what each of them
 * has to do about jobs that are over (`job-retention.ts`) or due.
 */
export const CALLS_IN_BATCH = 50;

type Argument = string | number | Buffer | null | undefined;
type Script = (args: readonly Argument[]) => Promise<unknown>;
/** As ioredis has it: of the client, and of its pipelines. */
type Command = (this: unknown, args: readonly Argument[]) => Promise<unknown>;

interface Call {
  args: readonly Argument[];
  resolve: (answer: unknown) => void;
  reject: (error: unknown) => void;
}

/**
 * Sends the calls of a script that are made in one turn of the event loop as one command, which runs the script for each
 * of them, in their order. Most of what a command costs this process is its arguments, and BullMQ's scripts have more than
 * twenty, nearly all of them the same for each job: those are sent once.
 *
 * Each call has its own answer, or its own error. For a single Redis only: on a cluster the calls may be for different nodes.
 */
export function batchScripts(client: Redis): Redis {
  const define = client.defineCommand.bind(client);
  const commands = client as unknown as Record<string, Command>;
  const defineCommand: Redis['defineCommand'] = (name, definition) => {
    define(name, definition);
    // BullMQ adds its version to a script's name.
    if (!BATCHED.has(name.split(':')[0]!)) return;
    const batchName = `${name}:batch`;
    define(batchName, { ...definition, lua: runForEachCall(definition.lua) });
    const single = commands[name]!;
    const batches = new ScriptBatches(single.bind(client), commands[batchName]!.bind(client));
    commands[name] = function (this: unknown, args) {
      return this === client ? batches.call(args) : single.call(this, args);
    };
  };
  return Object.assign(client, { defineCommand });
}

class ScriptBatches {
  readonly #runOne: Script;
  readonly #runEach: Script;
  #waiting: Call[] = [];

  constructor(runOne: Script, runEach: Script) {
    this.#runOne = runOne;
    this.#runEach = runEach;
  }

  call(args: readonly Argument[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length > 0 && this.#waiting[0]!.args.length !== args.length) this.#send();
      // After everything that this turn has to do: that is where the other calls come from.
      if (this.#waiting.length === 0) process.nextTick(() => this.#send());
      this.#waiting.push({ args, resolve, reject });
      if (this.#waiting.length === CALLS_IN_BATCH) this.#send();
    });
  }

  #send(): void {
    const calls = this.#waiting;
    this.#waiting = [];
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
    this.#runEach(argumentsOfBatch(calls)).then(settle, (error: unknown) => {
      for (const { reject } of calls) reject(error);
    });
  }
}

/**
 * All of the first call, then of each further one what is not the same for all, and last where that belongs: the number
 * of calls, the length of one, and the positions in it.
 */
function argumentsOfBatch(calls: readonly Call[]): Argument[] {
  const [first, ...others] = calls.map(({ args }) => args);
  const positions = [...first!.keys()].filter((position) => others.some((args) => args[position] !== first![position]));
  const differences = others.flatMap((args) => positions.map((position) => args[position]));
  const layout = [calls.length, first!.length, ...positions.map((position) => position + 1)];
  return [...first!, ...differences, layout.join(' ')];
}

/** A script that does for {@link argumentsOfBatch} what another one does for one call. */
function runForEachCall(script: string): string {
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
