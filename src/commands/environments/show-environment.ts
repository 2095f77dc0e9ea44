import type { Environment } from '../../environments/service/input.ts';

/** What became of an environment: a sentence for people, its row for programs. */
export function showEnvironment(done: string, environment: Environment, { json }: { json: boolean }): string {
  if (json) return `${JSON.stringify(environment)}\n`;
  const { id, name, driver } = environment;
  return `${done} environment ${id}: ${name} (${driver})\n`;
}
