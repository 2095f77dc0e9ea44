import ignore from 'ignore';
import type { Ignore } from 'ignore';

/** The rules of one .gitignore. */
interface Level {
  /** The directory it lies in, with the slash after it; `''` for the workspace itself. */
  base: string;
  rules: Ignore;
}

/**
 * The rules that hold in a directory, as git has them: the deepest .gitignore that says anything of a path decides, and
 * in it the last line that does. Git asks only about paths whose directories are not ignored, and so must a caller.
 */
export class IgnoreRules {
  static readonly none = new IgnoreRules([]);

  /** Outermost first. */
  readonly #levels: readonly Level[];

  private constructor(levels: readonly Level[]) {
    this.#levels = levels;
  }

  /** The rules within a directory of this one that is not ignored, with the text of its .gitignore. */
  within(directory: string, gitignore: string | undefined): IgnoreRules {
    const inherited = this.#levels.map((level) => keptFor(level, directory));
    if (gitignore === undefined) {
      return inherited.every((level, index) => level === this.#levels[index]) ? this : new IgnoreRules(inherited);
    }
    const base = directory === '' ? '' : `${directory}/`;
    return new IgnoreRules([...inherited, { base, rules: ignore({ ignorecase: false }).add(gitignore) }]);
  }

  ignores(path: string, isDirectory: boolean): boolean {
    for (const { base, rules } of this.#levels.toReversed()) {
      const { ignored, unignored } = rules.test(within(base, path, isDirectory));
      if (ignored) return true;
      if (unignored) return false;
    }
    return false;
  }
}

/**
 * The library takes all in an ignored directory for ignored. Where a deeper .gitignore has brought the directory back,
 * the outer one's own rules must still be asked about what is in it, so there it is told to let the directory pass.
 */
function keptFor(level: Level, directory: string): Level {
  if (directory === '' || !level.rules.test(within(level.base, directory, true)).ignored) return level;
  const passing = `!/${escaped(within(level.base, directory, true))}`;
  return { base: level.base, rules: ignore({ ignorecase: false }).add(level.rules).add({ pattern: passing }) };
}

/** A path as the rules of a .gitignore know it: from where it lies, a directory with a slash after it. */
function within(base: string, path: string, isDirectory: boolean): string {
  return path.slice(base.length) + (isDirectory ? '/' : '');
}

/** A path as a pattern that matches nothing else. */
function escaped(path: string): string {
  return path.replaceAll(/[\\*?[\]!# ]/g, '\\$&');
}
