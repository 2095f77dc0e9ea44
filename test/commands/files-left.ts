import { readdir } from 'node:fs/promises';

/**
 * What a process has left in its temporary directory, besides what is kept there for the next one: what the compiler
 * made of the source, and Postgres' programs where those of the package cannot be run.
 */
export async function filesLeftIn(directory: string): Promise<string[]> {
  const names = await readdir(directory);
  return names.filter((name) => !/^(tsx|lessor-programs)-/.test(name));
}
