FROM node:22-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No package that is needed here has to run a script at its installation.
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY src src
RUN npm run build

FROM node:22-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# The optional dependency is the embedded Postgres, which is for development.
RUN --mount=type=cache,target=/root/.npm npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

FROM node:22-slim
ENV NODE_ENV=production
# With a heap that could become larger, Node lets it grow fourfold before it collects old garbage; and a larger nursery lets
# less of what a job leaves grow old. docs/performance.md has the figures.
ENV NODE_OPTIONS="--max-old-space-size=1024 --max-semi-space-size=32"
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json ./
USER node
# Whatever the container runs depends on both stores. The dashboard has a better one in docker-compose.yml: its own URL.
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s --retries=3 CMD ["node", "dist/cli.js", "health"]
# The exec form: signals reach node itself, which lets jobs in flight end.
ENTRYPOINT ["node", "dist/cli.js"]
CMD ["worker"]
