import type { Stats } from 'node:fs';
import { chmod, chown, truncate, utimes, type FileHandle } from 'node:fs/promises';
import type { Attributes, FileEntry } from 'ssh2';

/** The attributes that a client names; the others are to stay as they are. */
export type GivenAttributes = Partial<Attributes>;

/** Permission bits, without those that say what kind of file it is. */
const PERMISSION_BITS = 0o7777;

export function attributesOf(stats: Stats): Attributes {
  const { mode, uid, gid, size } = stats;
  return { mode, uid, gid, size, atime: seconds(stats.atimeMs), mtime: seconds(stats.mtimeMs) };
}

function seconds(milliseconds: number): number {
  return Math.floor(milliseconds / 1_000);
}

export function permissionsIn({ mode }: GivenAttributes, otherwise: number): number {
  return mode === undefined ? otherwise : mode & PERMISSION_BITS;
}

/** In the order of OpenSSH's sftp-server: the owner last, as changing it may take away the right to the rest. */
export async function setAttributesOfPath(path: string, given: GivenAttributes): Promise<void> {
  const { size, mode, atime, mtime, uid, gid } = given;
  if (size !== undefined) await truncate(path, size);
  if (mode !== undefined) await chmod(path, mode & PERMISSION_BITS);
  if (atime !== undefined && mtime !== undefined) await utimes(path, atime, mtime);
  if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
}

export async function setAttributesOfFile(file: FileHandle, given: GivenAttributes): Promise<void> {
  const { size, mode, atime, mtime, uid, gid } = given;
  if (size !== undefined) await file.truncate(size);
  if (mode !== undefined) await file.chmod(mode & PERMISSION_BITS);
  if (atime !== undefined && mtime !== undefined) await file.utimes(atime, mtime);
  if (uid !== undefined && gid !== undefined) await file.chown(uid, gid);
}

export function entryOf(filename: string, stats: Stats): FileEntry {
  return { filename, longname: longNameOf(filename, stats), attrs: attributesOf(stats) };
}

/** A line as `ls -ln` prints it, for people. */
function longNameOf(filename: string, stats: Stats): string {
  const date = stats.mtime.toISOString().slice(0, 16).replace('T', ' ');
  return `${typeLetter(stats)}${permissionLetters(stats.mode)} ${stats.nlink} ${stats.uid} ${stats.gid} ${stats.size} ${date} ${filename}`;
}

function typeLetter(stats: Stats): string {
  if (stats.isDirectory()) return 'd';
  if (stats.isSymbolicLink()) return 'l';
  if (stats.isFIFO()) return 'p';
  if (stats.isSocket()) return 's';
  if (stats.isCharacterDevice()) return 'c';
  return stats.isBlockDevice() ? 'b' : '-';
}

function permissionLetters(mode: number): string {
  return Array.from('rwxrwxrwx', (letter, index) => (mode & (0o400 >> index) ? letter : '-')).join('');
}
