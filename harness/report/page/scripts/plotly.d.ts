/** The part of plotly.js that report/panels uses. */

export interface Trace {
  x: unknown[];
  y: unknown[];
  name?: string;
  yaxis?: string;
  mode?: string;
  text?: string[];
  textposition?: string;
  cliponaxis?: boolean;
  customdata?: number[];
  hovertext?: string[];
  hoverinfo?: string;
  type?: string;
  line?: object;
  marker?: { symbol?: unknown; color?: unknown };
  meta: { series: string | null };
}

export interface Layout {
  [name: string]: any;
  annotations?: { font?: object; text: string }[];
  meta?: { front?: "lower" | "higher"; axes?: Record<string, object> };
}

/** A figure of the page with what plotly adds to its element. */
export type PlotElement = HTMLElement & { data?: Trace[]; layout?: Layout };

declare global {
  const Plotly: {
    react(target: HTMLElement, data: Trace[], layout: Layout, config: object): Promise<unknown>;
    purge(target: HTMLElement): void;
  };
}
