#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { dashboardCommand } from './commands/dashboard.ts';
import { devCommand } from './commands/dev.ts';
import { archiveEnvironmentCommand } from './commands/environments/archive.ts';
import { createEnvironmentCommand } from './commands/environments/create.ts';
import { probeEnvironmentCommand } from './commands/environments/probe.ts';
import { updateEnvironmentCommand } from './commands/environments/update.ts';
import { healthCommand } from './commands/health.ts';
import { labCommand } from './commands/lab/lab-command.ts';
import { activityCommand, environmentsCommand, leasesCommand } from './commands/listings.ts';
import { migrateCommand } from './commands/migrate.ts';
import { publishCommand } from './commands/publish.ts';
import { exitCodeOf, reportError } from './commands/report-error.ts';
import { retryReleaseCommand } from './commands/retry-release.ts';
import { runCommand } from './commands/run.ts';
import { schemaCommand } from './commands/schema.ts';
import { workerCommand } from './commands/worker.ts';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const COMMANDS = [
  runCommand(),
  publishCommand(),
  workerCommand(),
  migrateCommand(),
  devCommand(),
  dashboardCommand(),
  leasesCommand().addCommand(retryReleaseCommand()),
  environmentsCommand()
    .addCommand(createEnvironmentCommand())
    .addCommand(updateEnvironmentCommand())
    .addCommand(archiveEnvironmentCommand())
    .addCommand(probeEnvironmentCommand())
    .addCommand(labCommand()),
  activityCommand(),
  schemaCommand(),
  healthCommand(),
];

const program = new Command('lessor')
  .description('A lease for every heartbeat run on the environment it executes in, taken back whatever happens.')
  .version(version)
  // What comes after the name of a command is the command's: `leases` and its subcommands have flags of one name.
  .enablePositionalOptions()
  .helpCommand(false);
for (const command of COMMANDS) program.addCommand(command);
throwInsteadOfExiting(program);

try {
  await program.parseAsync();
} catch (error) {
  reportError(error);
  process.exitCode = exitCodeOf(error);
}

/** Subcommands do not inherit it. */
function throwInsteadOfExiting(command: Command): void {
  command.exitOverride();
  // One line, suggestion included.
  command.configureOutput({ outputError: (text, write) => write(text.replace('\n(', ' (')) });
  for (const subcommand of command.commands) throwInsteadOfExiting(subcommand);
}
