/** How long a container runtime may take to answer before the tests do without one. */
const RUNTIME_TIMEOUT_MS = 5_000;

/** Why no containers can be run, as far as is known by now; undefined when they can. */
export async function whyNoContainers(): Promise<string | undefined> {
  const { getContainerRuntimeClient } = await import('testcontainers');
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, RUNTIME_TIMEOUT_MS, 'the container runtime does not answer');
  });
  const answer = getContainerRuntimeClient().then(
    () => undefined,
    () => 'no container runtime answers',
  );
  try {
    return await Promise.race([answer, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
