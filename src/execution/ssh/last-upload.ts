import { z } from 'zod';
import type { Manifest } from '../workspace/manifest.ts';
import type { FileEntry } from '../workspace/workspace-entry.ts';
import { SftpRefusedError } from './sftp-files.ts';
import type { SftpFiles } from './sftp-files.ts';

/** What a place remembers of the files it was brought, so that the next run of it need not send all of them again. */
const recordSchema = z.strictObject({
  version: z.literal(1),
  broughtAt: z.int(),
  /** Path, size, mtime and SHA-256. */
  files: z.array(z.tuple([z.string(), z.int(), z.int(), z.string()])),
});

/** The longest record that is read: that of half a million files. */
const LONGEST_RECORD_BYTES = 128 * 1024 * 1024;

/** The files that the last upload into a place has left there. */
export class LastUpload {
  readonly #files: ReadonlyMap<string, Pick<FileEntry, 'size' | 'mtime'> & { sha256: string }>;
  readonly #broughtAt: number;

  private constructor(broughtAt: number, files: z.infer<typeof recordSchema>['files']) {
    this.#broughtAt = broughtAt;
    this.#files = new Map(files.map(([path, size, mtime, sha256]) => [path, { size, mtime, sha256 }]));
  }

  /** Nothing is known of a place whose last upload did not come to its end, or whose record is damaged. */
  static async read(files: SftpFiles, path: string): Promise<LastUpload> {
    const record = recordSchema.safeParse(parsed(await readIfThere(files, path)));
    return record.success ? new LastUpload(record.data.broughtAt, record.data.files) : new LastUpload(0, []);
  }

  /** Remembers an upload that came to its end. */
  static async write(files: SftpFiles, path: string, { entries, broughtAt }: Manifest): Promise<void> {
    const record: z.infer<typeof recordSchema> = { version: 1, broughtAt, files: [] };
    for (const [file, entry] of entries) {
      if (entry.kind === 'file') record.files.push([file, entry.size, entry.remoteMtime, entry.sha256]);
    }
    await files.writeNew(path, Buffer.from(JSON.stringify(record)));
  }

  /** The SHA-256 of a file on the host, if it is still as it was brought; undefined when that is not sure. */
  sha256Of({ path, size, mtime }: FileEntry): string | undefined {
    const known = this.#files.get(path);
    const isStill = known?.size === size && known.mtime === mtime && mtime < this.#broughtAt;
    return isStill ? known.sha256 : undefined;
  }
}

async function readIfThere(files: SftpFiles, path: string): Promise<Buffer> {
  try {
    return await files.readBeginning(path, LONGEST_RECORD_BYTES);
  } catch (error) {
    if (error instanceof SftpRefusedError) return Buffer.alloc(0);
    throw error;
  }
}

function parsed(text: Buffer): unknown {
  try {
    return JSON.parse(text.toString('utf8'));
  } catch {
    return undefined;
  }
}
