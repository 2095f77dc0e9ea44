import { readdir } from 'node:fs/promises';

/**
 * The files that a process left in its temporary directory, without the caches kept there: compiled sources, and the
 * programs of Postgres where those of the package cannot be executed.
 */
export async function filesLeftIn(directory: string): Promise<string[]> {
  const names = await readdir(directory);
  return names.filter((name) => !/^(tsx|lessor-programs)-/.test(name));
}
