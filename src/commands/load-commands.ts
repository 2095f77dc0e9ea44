import type { Command } from 'commander';

/**
 * The commands of `lessor`, in the order of its help. Each is imported when it is needed: all of them take a second to
 * load.
 */
const LOADERS: Readonly<Record<string, () => Promise<Command>>> = {
  run: async () => (await import('./run.ts')).runCommand(),
  publish: async () => (await import('./publish.ts')).publishCommand(),
  worker: async () => (await import('./worker.ts')).workerCommand(),
  migrate: async () => (await import('./admin.ts')).migrateCommand(),
  dev: async () => (await import('./dev.ts')).devCommand(),
  dashboard: async () => (await import('./dashboard.ts')).dashboardCommand(),
  leases: async () => {
    const { leasesCommand } = await import('./listings.ts');
    const { retryReleaseCommand } = await import('./retry-release.ts');
    return leasesCommand().addCommand(retryReleaseCommand());
  },
  environments: async () => {
    const { environmentsCommand } = await import('./listings.ts');
    const manage = await import('./environments/manage.ts');
    const { probeEnvironmentCommand } = await import('./environments/probe.ts');
    const { labCommand } = await import('./lab/lab-command.ts');
    return environmentsCommand()
      .addCommand(manage.createEnvironmentCommand())
      .addCommand(manage.updateEnvironmentCommand())
      .addCommand(manage.archiveEnvironmentCommand())
      .addCommand(probeEnvironmentCommand())
      .addCommand(labCommand());
  },
  activity: async () => (await import('./listings.ts')).activityCommand(),
  schema: async () => (await import('./admin.ts')).schemaCommand(),
  health: async () => (await import('./admin.ts')).healthCommand(),
};

/** The command that the first argument names; else every command, for the help and for suggestions. */
export async function loadCommands(firstArgument?: string): Promise<Command[]> {
  if (firstArgument === '--version' || firstArgument === '-V') return [];
  const named = firstArgument === undefined ? undefined : LOADERS[firstArgument];
  return Promise.all((named === undefined ? Object.values(LOADERS) : [named]).map((load) => load()));
}
