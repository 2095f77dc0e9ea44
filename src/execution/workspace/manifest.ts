/** What both sides of a workspace held when it was brought to the environment. */
export interface Manifest {
  entries: ReadonlyMap<string, ManifestEntry>;
  /**
   * The environment's own clock from before anything was brought, in whole seconds since 1970: a file with a later
   * mtime can have been changed since without its mtime telling.
   */
  broughtAt: number;
  /** Directories that only the environment had by then, from an earlier run: what .gitignore leaves out lies in them. */
  leftOver: ReadonlySet<string>;
}

/** Modes and times are kept for both sides, as not every file system takes those that it is given. */
export type ManifestEntry =
  | { kind: 'file'; size: number; sha256: string; mode: number; remoteMode: number; remoteMtime: number }
  | { kind: 'directory'; mode: number; remoteMode: number }
  | { kind: 'symlink'; target: string };
