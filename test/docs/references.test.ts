import { existsSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readDocuments } from './documents.ts';

const documents = await readDocuments();
const { scripts } = JSON.parse(await readFile('package.json', 'utf8')) as { scripts: Record<string, string> };

const FOLDERS = ['.ci', 'bench', 'demo', 'docs', 'scripts', 'soak', 'src', 'test', 'testing'];
const files = (
  await Promise.all(
    FOLDERS.map(async (folder) => (await readdir(folder, { recursive: true })).map((path) => join(folder, path))),
  )
).flat();

/** Made by `npm run bench`, and not kept. */
const GENERATED = ['bench/results/quick'];

/** A path from the root, from `src` or `test`, or from the document's own folder; a file alone by its name. */
function exists(path: string, document: string): boolean {
  if (GENERATED.includes(path)) return true;
  if (path.includes('*')) {
    const pattern = new RegExp(`(^|/)${path.replaceAll('.', '\\.').replaceAll('*', '[^/]*')}$`);
    return files.some((file) => pattern.test(file));
  }
  const bases = ['.', 'src', 'test', dirname(document)];
  if (bases.some((base) => existsSync(join(base, path)))) return true;
  return !path.includes('/') && files.some((file) => file.endsWith(`/${path}`));
}

/** Code of a document that reads as a path of this package. */
function pathsIn(text: string): string[] {
  const code = [...text.replaceAll(/```(?!sh|text).*?```/gs, '').matchAll(/`([^`\n]+)`/g)].map(([, span]) => span!);
  const words = code.flatMap((span) => span.split(/\s+/));
  const folder = new RegExp(`^(${FOLDERS.map((name) => name.replace('.', '\\.')).join('|')})/[\\w./*-]*$`);
  return words.filter((word) => folder.test(word) || /^[\w./*-]+\.(ts|mjs|sh|awk|sql|md)$/.test(word));
}

describe.for(documents)('$path', ({ path: document, text }) => {
  test('names only files and folders that exist', () => {
    expect(pathsIn(text).filter((path) => !exists(path, document))).toEqual([]);
  });

  test('links only to files that exist', () => {
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)/g)].map(([, link]) => link!);
    expect(links.filter((link) => !existsSync(join(dirname(document), link)))).toEqual([]);
  });

  test('links only to headings that exist', async () => {
    const links = [...text.matchAll(/\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)/g)];
    const missing = await Promise.all(
      links.map(async ([link, file, anchor]) => {
        const target = file === '' ? text : await readFile(join(dirname(document), file!), 'utf8');
        return headingsOf(target).includes(anchor!) ? [] : [link];
      }),
    );
    expect(missing.flat()).toEqual([]);
  });

  test('names only npm scripts that exist', () => {
    const named = [...text.matchAll(/npm run (?:--silent )?([\w:-]+)/g)].map(([, script]) => script!);
    expect(named.filter((script) => !(script in scripts))).toEqual([]);
  });
});

/** As GitHub makes anchors of headings. */
function headingsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
