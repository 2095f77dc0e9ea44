import type { SftpFiles } from './sftp-files.ts';

/** What the owner of a directory needs to change what is in it. */
export const OWNER_ACCESS = 0o700;

/** Removes whatever is at a path of a host with all that is in it, and follows no symlink. */
export async function removeTree(files: SftpFiles, path: string): Promise<void> {
  const stats = await files.lstat(path);
  if (stats === undefined) return;
  if (!stats.isDirectory()) return files.unlink(path);

  const directories = [path];
  // Grows while it is gone through.
  for (const directory of directories) {
    await files.setstat(directory, { mode: OWNER_ACCESS });
    const names: string[] = [];
    for await (const entries of files.list(directory)) {
      for (const { filename, attrs } of entries) {
        if (attrs.isDirectory()) directories.push(`${directory}/${filename}`);
        else names.push(filename);
      }
    }
    for (const name of names) await files.unlink(`${directory}/${name}`);
  }
  for (const directory of directories.toReversed()) await files.rmdir(directory);
}
