import { randomUUID } from 'node:crypto';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import { addressOf } from '../../ssh/address.ts';
import type { SshConfig } from '../../ssh/config.ts';
import type { SshConnection } from '../../ssh/connection.ts';
import { SessionSlots } from '../../ssh/session-slots.ts';
import { LEASE_DIRECTORY_VARIABLE, commandsDirectoryOf, workspacePathOf } from '../../ssh/lease-directory.ts';
import type { LeaseDirectory } from '../../ssh/lease-directory.ts';
import type { Command, Execution, ExecutionOptions, PrepareReport, ProcessEnd, RestoreReport } from '../driver.ts';
import { InvalidCommandError, checkCommand } from '../invalid-command.ts';
import { LocalWorkspace } from '../workspace/local-workspace.ts';
import type { Manifest } from '../workspace/manifest.ts';
import { restoreWorkspace } from '../workspace/restore-workspace.ts';
import { EXIT_NO_WORKSPACE, commandScript } from './command-script.ts';
import type { CommandFiles } from './command-script.ts';
import { RemoteCommand } from './remote-command.ts';
import { RemoteRestoreSource } from './remote-restore-source.ts';
import type { SftpFiles } from './sftp-files.ts';
import { uploadWorkspace } from './upload-workspace.ts';

/** A place on a host, with the connection to it. */
export interface SshPlace {
  connection: SshConnection;
  files: SftpFiles;
  config: SshConfig;
  place: LeaseDirectory;
  leaseId: string;
}

/** A connection has eight sessions, of which one is for files; the others are for what sends signals. */
const COMMANDS_AT_ONCE = 5;

/** An execution on a host that is reached over SSH. */
export class SshExecution implements Execution {
  readonly workspacePath: string;
  readonly location: string;
  readonly #at: SshPlace;
  readonly #options: ExecutionOptions;
  readonly #slots = new SessionSlots(COMMANDS_AT_ONCE);
  readonly #running = new Set<Promise<RemoteCommand>>();
  /** The workspace of this machine, when it is to be staged. */
  readonly #directory: string | undefined;
  #manifest: Manifest | undefined;

  /** @param directory the workspace of this machine, without symlinks in its path */
  constructor(at: SshPlace, directory: string | undefined, options: ExecutionOptions) {
    this.#at = at;
    this.#options = options;
    this.#directory = at.config.workspaceMode === 'staged' ? directory : undefined;
    this.workspacePath = workspacePathOf(at.config, at.place);
    this.location = `${at.config.username}@${addressOf(at.config)}:${this.workspacePath}`;
  }

  async prepareWorkspace(): Promise<PrepareReport> {
    const { files, place } = this.#at;
    const { signal, onProgress } = this.#options;
    signal.throwIfAborted();
    await this.#checkWorkspace();
    if (this.#directory === undefined) return { files: 0, bytes: 0, skipped: this.#unused() };
    const { manifest, report } = await uploadWorkspace({
      files,
      directory: this.#directory,
      place,
      workspacePath: this.workspacePath,
      signal,
      onProgress,
    });
    this.#manifest = manifest;
    return report;
  }

  async execute(command: Command): Promise<ProcessEnd> {
    const { place } = this.#at;
    const { signal } = this.#options;
    signal.throwIfAborted();
    checkCommand(command);
    if (Object.hasOwn(command.env, LEASE_DIRECTORY_VARIABLE)) {
      throw new InvalidCommandError(`${LEASE_DIRECTORY_VARIABLE} is set by Lessor and cannot be set otherwise`);
    }
    const id = randomUUID();
    const commandFiles: CommandFiles = {
      script: `${commandsDirectoryOf(place)}/${id}.sh`,
      pid: `${commandsDirectoryOf(place)}/${id}.pid`,
    };
    const script = commandScript(command, { place, workspacePath: this.workspacePath, files: commandFiles });
    const slot = this.#slots.take(signal);
    const running = slot.then(() => this.#start(command, script, commandFiles));
    this.#running.add(running);
    try {
      const end = await (await running).ended(signal);
      if (end.code === EXIT_NO_WORKSPACE) await this.#checkStarted(commandFiles);
      return end;
    } finally {
      this.#running.delete(running);
      void slot.then((giveBack) => giveBack()).catch(() => undefined);
    }
  }

  async send(signal: NodeJS.Signals): Promise<void> {
    const sent = [...this.#running].map(async (starting) => {
      // One that does not start tells so by itself.
      const started = await starting.catch(() => undefined);
      await started?.send(signal);
    });
    await Promise.all(sent);
  }

  async restoreWorkspace({
    signal = new AbortController().signal,
  }: { signal?: AbortSignal } = {}): Promise<RestoreReport> {
    if (this.#directory === undefined || this.#manifest === undefined)
      return { changed: [], created: [], deleted: [], conflicts: [], skipped: [] };
    return restoreWorkspace({
      manifest: this.#manifest,
      source: new RemoteRestoreSource(this.#at.files, this.workspacePath, signal),
      workspace: new LocalWorkspace(this.#directory),
      leaseId: this.#at.leaseId,
      signal,
      onProgress: this.#options.onProgress,
    });
  }

  async close(): Promise<void> {
    this.#at.files.release();
    await this.#at.connection.close();
  }

  #unused(): PrepareReport['skipped'] {
    if (this.#options.workspaceDirectory === undefined) return [];
    return [{ path: '.', reason: `the environment works in place, on the checkout in ${this.workspacePath}` }];
  }

  /** Whoever acquired the lease has made it. */
  async #checkWorkspace(): Promise<void> {
    const stats = await this.#at.files.lstat(this.workspacePath);
    // A checkout that is used in place may be reached through a symlink, of whoever set up the environment.
    if (stats?.isDirectory() || (stats?.isSymbolicLink() && this.#at.config.workspaceMode === 'in_place')) return;
    throw new EnvironmentFailedError(
      'workspace_unusable',
      `${this.location} is ${stats === undefined ? 'not there' : 'no directory'}; is the lease over, or was it removed?`,
    );
  }

  async #start(command: Command, script: string, commandFiles: CommandFiles): Promise<RemoteCommand> {
    const { connection, files, place } = this.#at;
    const { signal } = this.#options;
    const directory = commandsDirectoryOf(place);
    if ((await files.lstat(directory)) === undefined) await files.mkdir(directory, 0o700);
    await files.writeNew(commandFiles.script, Buffer.from(script), 0o700);
    try {
      signal.throwIfAborted();
      return await RemoteCommand.start(connection, commandFiles, command);
    } catch (error) {
      // It holds values of variables. Where it cannot be removed now, it is when the lease is released.
      await files.unlink(commandFiles.script).catch(() => undefined);
      throw error;
    }
  }

  /** The code is the script's own when the command was never started. */
  async #checkStarted({ pid }: CommandFiles): Promise<void> {
    if ((await this.#at.files.lstat(pid)) !== undefined) return;
    throw new EnvironmentFailedError(
      'workspace_unusable',
      `${this.location} cannot be entered, or nothing be written beside it; was it removed, or is the disk full?`,
    );
  }
}
