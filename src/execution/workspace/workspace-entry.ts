/** What a workspace holds at a path. Paths are relative to the workspace and separated by `/`, on every system. */
export type WorkspaceEntry = FileEntry | DirectoryEntry | SymlinkEntry;

export interface FileEntry {
  kind: 'file';
  path: string;
  size: number;
  /** The permissions, without setuid and its like. */
  mode: number;
  /** Whole seconds since 1970, as SFTP has them. */
  mtime: number;
}

export interface DirectoryEntry {
  kind: 'directory';
  path: string;
  mode: number;
}

export interface SymlinkEntry {
  kind: 'symlink';
  path: string;
  target: string;
}

/** What is left where it is, and why. */
export interface SkippedEntry {
  kind: 'skipped';
  path: string;
  reason: string;
}

/** One side's files: those on this machine, or those on the environment. */
export interface WorkspaceTree {
  /** Everything in a directory, symlinks not followed. The workspace itself is the directory `''`. */
  list(directory: string): Promise<(WorkspaceEntry | SkippedEntry)[]>;
  /** The beginning of a file, symlinks not followed. */
  readBeginning(path: string, maximumBytes: number): Promise<Buffer>;
}

/** The permissions that are kept: setuid, setgid and the sticky bit never cross. */
export const PERMISSIONS = 0o777;

/** Joins a directory of a workspace and a name in it. */
export function pathIn(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`;
}

/** The directory that a path lies in; `''` for what lies in the workspace itself. */
export function directoryOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 0));
}

/** How deep a path lies: 1 for what lies in the workspace itself. */
export function depthOf(path: string): number {
  return path.split('/').length;
}

/** Every directory above a path, outermost first, without the workspace itself. */
export function directoriesAbove(path: string): string[] {
  const names = path.split('/').slice(0, -1);
  return names.map((_, index) => names.slice(0, index + 1).join('/'));
}
