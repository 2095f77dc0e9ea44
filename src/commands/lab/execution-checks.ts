import { existsSync } from 'node:fs';
import { readFile, realpath, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import type { Command, Execution, ProcessExit, RestoreReport } from '../../execution/driver.ts';
import { expected } from './check.ts';
import type { LabCheck } from './check.ts';
import { describeTree, writeSampleWorkspace } from './sample-workspace.ts';

/** A workspace arrives on the host as it is here, without what its .gitignore excludes. */
export const uploadCheck: LabCheck = {
  name: 'upload',
  async run(lab, signal) {
    const directory = await lab.makeDirectory('upload');
    const { oddNames, ignored } = await writeSampleWorkspace(directory);
    return lab.withLease(async (lease, leaseSignal) => {
      const execution = await lab.executionDriver.open(lease, { workspaceDirectory: directory, signal: leaseSignal });
      try {
        const { files, bytes, skipped } = await execution.prepareWorkspace();
        expected(skipped.length === 0, `${skipped[0]?.path} was skipped: ${skipped[0]?.reason}`);
        // The host is this machine.
        assertSame(await describeTree(directory), await describeTree(execution.workspacePath), ignored);
        const megabytes = (bytes / 1_000_000).toFixed(1);
        return `${files} files, ${megabytes} MB, ${oddNames} with odd names, arrived unchanged; ${ignored.length} ignored ones were not sent`;
      } finally {
        await execution.close();
      }
    }, signal);
  },
};

function assertSame(here: Map<string, string>, there: Map<string, string>, ignored: readonly string[]): void {
  const isIgnored = (path: string) => ignored.some((file) => file === path || file.startsWith(`${path}/`));
  // A directory that holds nothing but ignored files need not be there.
  const uploaded = [...here].filter(([path]) => !isIgnored(path));
  for (const [path, entry] of uploaded) {
    expected(there.get(path) === entry, `${JSON.stringify(path)} is ${there.get(path) ?? 'missing'}, not ${entry}`);
  }
  const unexpected = [...there].find(([path, entry]) => !here.has(path) || (isIgnored(path) && entry !== 'directory'));
  expected(unexpected === undefined, `${JSON.stringify(unexpected?.[0])} should not be there`);
}

/** Each is an argument and the value of a variable, and means something to some shell on the way. */
const HOSTILE_TEXTS: readonly string[] = [
  'two words',
  "it's",
  '"quoted" and `quoted`',
  'line\nbreak\r\n\tand tab',
  '$HOME ${PATH} $(id) $((1+1)) %PATH%',
  '; touch pwned; && || | > < &',
  '*?[a-z]~{a,b}!#',
  String.raw`\ \n \0 \\`,
  '-n',
  '--',
  '',
  ' ',
  'ünïcödé 漢字 🚀 \u202E',
  'x'.repeat(100_000),
];

/** Every byte, many times over. */
const STDIN = Buffer.alloc(
  256 * 1_024,
  Uint8Array.from({ length: 256 }, (_, byte) => byte),
);

const EXIT_CODE = 37;

/** Prints what it was given, as JSON. */
const ECHO = `
const chunks = [];
process.stdin.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
  const env = Object.entries(process.env).filter(([name]) => name.startsWith('LAB_'));
  const stdin = Buffer.concat(chunks).toString('base64');
  console.log(JSON.stringify({ argv: process.argv.slice(1), env: Object.fromEntries(env), stdin, cwd: process.cwd() }));
  process.exitCode = ${EXIT_CODE};
});`;

/** A command's input arrives unchanged, and its exit is reported. */
export const executionCheck: LabCheck = {
  name: 'hostile arguments',
  run: (lab, signal) =>
    lab.withLease(async (lease, leaseSignal) => {
      const execution = await lab.executionDriver.open(lease, { signal: leaseSignal });
      try {
        await execution.prepareWorkspace();
        await assertInputArrives(execution);
        await assertSignalIsReported(execution);
      } finally {
        await execution.close();
      }
      const texts = HOSTILE_TEXTS.length;
      return (
        `${texts} arguments and ${texts} variables with quotes, newlines, $ and unicode, and ${STDIN.length} bytes of ` +
        `stdin arrived unchanged; exit code ${EXIT_CODE} and SIGTERM were reported`
      );
    }, signal),
};

async function assertInputArrives(execution: Execution): Promise<void> {
  const env = Object.fromEntries(HOSTILE_TEXTS.map((text, index) => [`LAB_${index}`, text]));
  // The host is this machine, so it has this Node.
  const argv = [process.execPath, '-e', ECHO, '--', ...HOSTILE_TEXTS] as const;
  const { end, stdout, stderr } = await executeAndCollect(execution, argv, { env, stdin: STDIN });
  const ended = end.signal ?? `code ${end.code}`;
  expected(end.code === EXIT_CODE, `the command ended with ${ended} instead of code ${EXIT_CODE}: ${stderr}`);
  const arrived = JSON.parse(stdout) as { argv: string[]; env: object; stdin: string; cwd: string };
  const argument = HOSTILE_TEXTS.find((text, index) => arrived.argv[index] !== text);
  expected(argument === undefined, `the argument ${JSON.stringify(argument)} did not arrive unchanged`);
  expected(arrived.argv.length === HOSTILE_TEXTS.length, `${arrived.argv.length} arguments arrived`);
  expected(isDeepStrictEqual(arrived.env, env), 'variables did not arrive unchanged');
  expected(arrived.stdin === STDIN.toString('base64'), 'stdin did not arrive unchanged');
  const workspacePath = await realpath(execution.workspacePath);
  expected(arrived.cwd === workspacePath, `the command ran in ${arrived.cwd} instead of ${workspacePath}`);
}

async function assertSignalIsReported(execution: Execution): Promise<void> {
  const { end } = await executeAndCollect(execution, ['sh', '-c', 'kill -s TERM "$$"']);
  expected(end.signal === 'SIGTERM', `a command that SIGTERM ended was reported to have ended with code ${end.code}`);
}

const BEFORE: readonly (readonly [path: string, content: string])[] = [
  ['changed there', 'before\n'],
  ['changed here', 'before\n'],
  ['changed on both sides', 'before\n'],
  ['deleted there', 'before\n'],
  ['untouched', 'before\n'],
];

const CHANGES_THERE = `
echo there > 'changed there'
echo there > 'changed on both sides'
rm 'deleted there'
mkdir 'made there'
echo there > 'made there/new file'`;

/** What changed on the host is downloaded, and overwrites nothing that changed here meanwhile. */
export const restoreCheck: LabCheck = {
  name: 'restore with a conflict',
  async run(lab, signal) {
    const directory = await lab.makeDirectory('restore');
    const put = (path: string, content: string) => writeFile(join(directory, path), content);
    for (const [path, content] of BEFORE) await put(path, content);
    const report = await lab.withLease(async (lease, leaseSignal) => {
      const execution = await lab.executionDriver.open(lease, { workspaceDirectory: directory, signal: leaseSignal });
      try {
        await execution.prepareWorkspace();
        const { end, stderr } = await executeAndCollect(execution, ['sh', '-e', '-c', CHANGES_THERE]);
        expected(end.code === 0, `the command failed: ${stderr}`);
        await put('changed here', 'here\n');
        await put('changed on both sides', 'here\n');
        return await execution.restoreWorkspace();
      } finally {
        await execution.close();
      }
    }, signal);
    const keptAs = await assertRestored(directory, report);
    return `1 changed, 1 new, 1 deleted file downloaded; what changed on both sides stayed, with the host’s version as ${keptAs}`;
  },
};

/** Resolves to where the host's version of the conflict is. */
async function assertRestored(directory: string, report: RestoreReport): Promise<string> {
  const [conflict, ...others] = report.conflicts;
  const isOneConflict = conflict?.path === 'changed on both sides' && others.length === 0;
  expected(
    isOneConflict && conflict.keptAs !== null,
    `these conflicts were reported: ${JSON.stringify(report.conflicts)}`,
  );
  const files: Record<string, string | null> = {
    'changed there': 'there\n',
    'changed here': 'here\n',
    'changed on both sides': 'here\n',
    [conflict.keptAs]: 'there\n',
    'deleted there': null,
    'made there/new file': 'there\n',
    untouched: 'before\n',
  };
  for (const [path, content] of Object.entries(files)) {
    const found = await contentOf(join(directory, path));
    expected(found === content, `${path} holds ${JSON.stringify(found)} instead of ${JSON.stringify(content)}`);
  }
  const { changed, deleted, created, skipped } = report;
  const reported = { changed, deleted, skipped, created: created.filter((path) => path.includes('/')) };
  const expectedReport = {
    changed: ['changed there'],
    deleted: ['deleted there'],
    skipped: [],
    created: ['made there/new file'],
  };
  expected(isDeepStrictEqual(reported, expectedReport), `it reported other changes: ${JSON.stringify(report)}`);
  return conflict.keptAs;
}

async function contentOf(path: string): Promise<string | null> {
  return existsSync(path) ? readFile(path, 'utf8') : null;
}

/** A finished command. */
interface CommandResult {
  end: ProcessExit;
  stdout: string;
  stderr: string;
}

const KILL_AFTER_MS = 2_000;

/** Executes a command and collects what it prints. */
export async function executeAndCollect(
  execution: Execution,
  argv: Command['argv'],
  { env = {}, stdin }: { env?: Command['env']; stdin?: Buffer } = {},
): Promise<CommandResult> {
  const [stdout, stderr] = [collector(), collector()];
  const end = await execution.execute({
    argv,
    env,
    stdout: stdout.stream,
    stderr: stderr.stream,
    killAfterMs: KILL_AFTER_MS,
    ...(stdin === undefined ? {} : { stdin: Readable.from([stdin]) }),
  });
  return { end, stdout: stdout.text(), stderr: stderr.text() };
}

function collector(): { stream: Writable; text(): string } {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk);
      done();
    },
  });
  return { stream, text: () => Buffer.concat(chunks).toString('utf8') };
}
