import { readFile } from 'node:fs/promises';

/** An example of a document, and the file of this package that it is a copy of. */
export interface Example {
  path: string;
  shown: string;
  /** The file as whoever uses the package would write it. */
  file: string;
}

/** The examples of a document that name the file they show, in a comment above. */
export async function examplesOf(document: string): Promise<Example[]> {
  const text = await readFile(document, 'utf8');
  const found = text.matchAll(/<!-- (\S+) -->\n\n```ts\n(.*?)```\n/gs);
  return Promise.all(
    [...found].map(async ([, path, shown]) => {
      const file = await readFile(path!, 'utf8');
      return { path: path!, shown: shown!, file: file.replaceAll(/'(\.\.\/)+src\/[^']+'/g, "'lessor'") };
    }),
  );
}

/** A line of a shell that calls `lessor`: the command with its subcommands, and the flags that Lessor is given. */
export interface Call {
  line: string;
  command: string[];
  flags: string[];
}

/** The calls of `lessor` in a document's examples for a shell. */
export async function callsIn(document: string): Promise<Call[]> {
  const text = await readFile(document, 'utf8');
  const blocks = [...text.matchAll(/```sh\n(.*?)```/gs)].map(([, block]) => block!.replaceAll(/\\\n\s*/g, ''));
  const lines = blocks
    .flatMap((block) => block.split('\n'))
    .flatMap((line) => /^(?:[A-Z_]+=\S+ )*(?:npx )?lessor (.*)$/.exec(line)?.[1] ?? []);
  return lines.map((line) => {
    const [own = ''] = line.split(' -- ');
    const words = own.replaceAll(/'[^']*'|"[^"]*"/g, 'QUOTED').split(/\s+/);
    const firstOther = words.findIndex((word) => !/^[a-z][a-z-]*$/.test(word));
    const command = firstOther === -1 ? words : words.slice(0, firstOther);
    return { line, command, flags: words.filter((word) => word.startsWith('--')) };
  });
}
