#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { loadCommands } from './commands/load-commands.ts';
import { printable } from './lib/printable.ts';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('lessor')
  .description('A lease for every heartbeat run on the environment it executes in, taken back whatever happens.')
  .version(version)
  // Flags after the name of a command belong to the command: `leases` and its subcommands share some.
  .enablePositionalOptions()
  .helpCommand(false);

surviveWriteErrors('stdout');
surviveWriteErrors('stderr');
try {
  for (const command of await loadCommands(process.argv[2])) program.addCommand(command);
  throwInsteadOfExiting(program);
  await program.parseAsync();
} catch (error) {
  process.exitCode = await exitCodeAfterReporting(error);
}

/**
 * A reader that has closed a pipe wanted no more of the output, and whatever this process holds still has to end in order:
 * a run whose end is not published keeps its lease. Any other error, such as a full disk, is reported once.
 */
function surviveWriteErrors(name: 'stdout' | 'stderr'): void {
  let isReported = false;
  process[name].on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE' || isReported) return;
    isReported = true;
    process.exitCode ||= 1;
    if (name === 'stdout') process.stderr.write(`error: stdout cannot be written: ${error.message}\n`);
  });
}

/** Subcommands do not inherit these settings. */
function throwInsteadOfExiting(command: Command): void {
  command.exitOverride();
  // An error takes one line, its suggestion included.
  command.configureOutput({ outputError: (text, write) => write(printable(text.replace('\n(', ' ('))) });
  for (const subcommand of command.commands) throwInsteadOfExiting(subcommand);
}

/** Commander has reported its own errors, of which `--help` and `--version` are two with the exit code 0. */
async function exitCodeAfterReporting(error: unknown): Promise<number> {
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  const { exitCodeOf, reportError } = await import('./commands/report-error.ts');
  reportError(error);
  return exitCodeOf(error);
}
