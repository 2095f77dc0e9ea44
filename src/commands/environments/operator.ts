import type { Actor } from '../../db/statements/activity.ts';

/** Who changes environments from the command line, as the activity log tells it. */
export function operatorOf(env: NodeJS.ProcessEnv): Actor {
  return { type: 'user', id: env['LOGNAME'] || env['USER'] || 'operator' };
}
