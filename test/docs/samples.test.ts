import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { readDocuments, samplesIn } from './documents.ts';
import type { Sample } from './documents.ts';

const execute = promisify(execFile);
const samples = (await readDocuments()).flatMap((document) => samplesIn(document));

/** A sample as a module: what it imports comes first, so that its context can use it. */
function moduleOf({ context, shown }: Sample): string {
  return `${context}\n${shown}\nexport {};\n`;
}

test('every TypeScript sample of the documents compiles under --strict against the public API', async () => {
  expect(samples.length).toBeGreaterThan(5);
  await mkdir('.lessor', { recursive: true });
  const directory = await mkdtemp('.lessor/samples-');
  onTestFinished(() => rm(directory, { recursive: true }));
  const files = await Promise.all(
    samples.map(async (sample) => {
      const file = `${sample.document.replaceAll(/\W/g, '_')}_line_${sample.line}.ts`;
      await writeFile(join(directory, file), moduleOf(sample));
      return file;
    }),
  );
  const compilerOptions = {
    module: 'nodenext',
    target: 'es2023',
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    allowImportingTsExtensions: true,
    types: ['node'],
    lib: ['es2023', 'esnext.string'],
    paths: { lessor: [resolve('src/index.ts')] },
  };
  await writeFile(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  const failure = await execute('node_modules/.bin/tsc', ['--project', directory]).then(
    () => '',
    ({ stdout }: { stdout: string }) => stdout,
  );
  expect(failure).toBe('');
});

test('the first sample of README.md needs nothing but the package', () => {
  const [first] = samples.filter(({ document }) => document === 'README.md');
  expect(first!.context).toBe('');
});

const copies = samples.filter(({ copyOf }) => copyOf !== undefined);

test('docs/drivers.md shows two drivers', () => {
  expect(copies.map(({ copyOf }) => copyOf)).toEqual([
    'test/support/directory-driver.ts',
    'test/support/directory-execution-driver.ts',
  ]);
});

test.for(copies)('the sample that is a copy of $copyOf is that file, in fifty lines at most', async (sample) => {
  const file = await readFile(sample.copyOf!, 'utf8');
  expect(sample.shown).toBe(file.replaceAll(/'(\.\.\/)+src\/[^']+'/g, "'lessor'"));
  expect(sample.shown.trimEnd().split('\n').length).toBeLessThanOrEqual(50);
});
