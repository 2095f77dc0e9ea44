import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** A document of this package. */
export interface Document {
  /** From the root of the package. */
  path: string;
  text: string;
}

const FOLDERS = ['docs', 'src', 'test', 'testing', 'demo', 'soak', 'bench'];

/** Written by the bench about one run of it. */
const GENERATED = /^bench\/results\//;

/** Every Markdown document of this package, sorted by path. */
export async function readDocuments(): Promise<Document[]> {
  const nested = await Promise.all(
    FOLDERS.map(async (folder) => (await readdir(folder, { recursive: true })).map((path) => join(folder, path))),
  );
  const paths = [...(await readdir('.')), ...nested.flat()].filter((path) => path.endsWith('.md'));
  return Promise.all(
    paths
      .filter((path) => !GENERATED.test(path))
      .toSorted()
      .map(async (path) => ({ path, text: await readFile(path, 'utf8') })),
  );
}

/** A TypeScript sample of a document, as a module. */
export interface Sample {
  document: string;
  /** Of the document, where the sample begins. */
  line: number;
  /** What the document shows. */
  shown: string;
  /** What a reader has to have in scope: declared in a comment `<!-- context … -->` above the sample. */
  context: string;
  /** The file of this package that the sample is a copy of, named in a comment above it. */
  copyOf: string | undefined;
}

export function samplesIn({ path, text }: Document): Sample[] {
  const found = text.matchAll(
    /(?:<!-- context\n(?<context>.*?)-->\n\n|<!-- (?<copyOf>\S+) -->\n\n)?```ts\n(?<shown>.*?)```\n/gs,
  );
  return [...found].map(({ groups, index }) => ({
    document: path,
    line: text.slice(0, index).split('\n').length,
    shown: groups!['shown']!,
    context: groups!['context'] ?? '',
    copyOf: groups!['copyOf'],
  }));
}

/** A call of `lessor` that a document shows: the command with its subcommands, and the flags it is given. */
export interface Call {
  document: string;
  text: string;
  command: string[];
  flags: string[];
}

/** The calls of `lessor` in a document's shell samples and in its inline code. */
export function callsIn({ path, text }: Document): Call[] {
  const samples = [...text.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, sample]) =>
    sample!.replaceAll(/\\\n\s*/g, '').split('\n'),
  );
  const inline = [...text.replaceAll(/```.*?```/gs, '').matchAll(/`([^`]+)`/g)].map(([, code]) =>
    code!.replaceAll(/\s+/g, ' '),
  );
  const calls = [...samples, ...inline].flatMap(
    (line) => /^(?:[A-Z_]+=\S+ )*(?:npx )?lessor (.*?)(?: \| .*)?$/.exec(line)?.[1] ?? [],
  );
  return calls
    .flatMap((call) => alternatives(call))
    .map((call) => ({ document: path, text: call, ...parseCall(call) }));
}

/** `leases create\|update` in a table stands for `leases create` and `leases update`. */
function alternatives(call: string): string[] {
  const words = call.replaceAll('\\|', '|').split(' ');
  return words.reduce<string[]>(
    (calls, word) => calls.flatMap((begun) => word.split('|').map((choice) => `${begun} ${choice}`.trim())),
    [''],
  );
}

function parseCall(call: string): Pick<Call, 'command' | 'flags'> {
  const [own = ''] = call.split(' -- ');
  const words = own.replaceAll(/'[^']*'|"[^"]*"/g, 'QUOTED').split(/\s+/);
  const firstArgument = words.findIndex((word) => !/^[a-z][a-z-]*$/.test(word));
  return {
    command: firstArgument === -1 ? words : words.slice(0, firstArgument),
    flags: words.filter((word) => word.startsWith('--')),
  };
}
