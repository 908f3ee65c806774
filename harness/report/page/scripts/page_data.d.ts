/**
 * What the page's scripts read. Python computes all of it (harness.report.model.page_data and the questions), so that a
 * script neither computes a number nor words one: it selects, places and draws.
 */

/** A number with its words. `words` has the value and its unit ("196 ms"), `interval` the 95% interval in the same unit
 * ("[195, 198]"), empty where there is none. */
export interface Amount {
  value: number;
  low?: number;
  high?: number;
  unit: string;
  words: string;
  interval: string;
}

export interface Sentence {
  words: string;
  amounts: Amount[];
}

export type Pass = "forward" | "forward + backward";
/** The place of a method relative to the reference. "tied": the intervals overlap, or differ by less than two names of
 * one kernel do. "unclear": a time was disturbed, or sampled only once. */
export type Order = "reference" | "faster" | "slower" | "tied" | "same kernel" | "unclear" | "no reference";

/** The worst of the output's error and, in training, of the three gradients'. */
export interface ErrorAtSetting {
  worst: Amount;
  /** Of which tensor: "output", "gradient of k". */
  of: string;
  draws: number;
  /** What it is compared with: "softmax", "yoso_e", or "its own definition", which says nothing about softmax. */
  reference: string;
  /** The method computes its reference exactly, and the error is of rounding only. */
  rounding: boolean;
}

/** One method with one choice of its knobs, at one setting. */
export interface MethodRow {
  series: string;
  attention: string;
  /** Its cost knob in words, with what else tells its series apart: "32 hashes, norm floor 0.1"; empty where there is none. */
  knob: string;
  /** The knob that trades cost for accuracy, for curves; null where it has none. */
  budget: { name: string; words: string; value: number } | null;
  /** This is what the attention does by default at this setting. */
  isDefault: boolean;
  exactSoftmax: boolean;
  time: Amount;
  samples: number;
  /** What the interval of the time is between: "within one process", "between 3 processes" with 3 as its amount; null
   * where it has none. */
  intervalScope: Sentence | null;
  /** How other processes disturbed the time; null where they did not. */
  disturbance: string | null;
  /** Time relative to the reference of the setting; null without a reference, or where either time was disturbed. */
  ratio: Amount | null;
  /** "9.91 times faster than sdpa", "no clear difference to sdpa". */
  comparison: string;
  order: Order;
  /** Why the time is tied with the reference's: "their intervals overlap"; null where it is not. */
  tiedBecause: Sentence | null;
  memory: Amount | null;
  /** By kind of inputs, in the words of `OperationData.inputs`; a kind is absent where nothing was measured. */
  errors: Record<string, ErrorAtSetting>;
  /** The mean score of the models that were trained with it: "needle 79.9%"; null without one. */
  score: { task: string; mean: Amount } | null;
  checks: { passed: number; total: number };
  kernel: string;
  knobs: [name: string, words: string][];
  caseId: string;
  command: string;
}

/** The series that gave no result for one reason: their names, joined with commas. */
export interface WithoutResult {
  series: string;
  attention: string;
  status: string;
  reason: string;
}

/** The fastest of some methods. Rows are named by their index in `Setting.rows`. */
export interface Winner {
  row: number;
  /** False where no time of theirs can be compared, and this is only the shortest. */
  verdict: boolean;
  /** The others that are not clearly slower. */
  tied: number[];
  /** Those of them that are its kernel under another name, each with its error; null without any. */
  sameKernelWords: Sentence | null;
  /** The rest of them, each with its error and why it is tied; null without any. */
  tiedWords: Sentence | null;
}

/** The winner within one allowed error; harness.report.questions.best_methods has the rule. */
export interface BestWithin {
  /** As a fraction of 1; null allows any error that was measured. */
  allowed: number | null;
  /** One row for each attention, the fastest first. Of several knobs it is the fastest within the allowed error; where
   * none is, what the attention does by default. */
  methods: number[];
  winner: Winner | null;
  /** Within the allowed error and clearly faster than the fastest exact method. */
  faster: number[];
  /** What is clearly faster than the winner and without a known error against softmax attention. */
  notCounted: number[];
  /** What the card of the winner says beside it. */
  remarks: Sentence[];
}

/** The winners at one setting on one kind of inputs. */
export interface BestMethods {
  exact: Winner | null;
  within: BestWithin[];
}

/** The attention alone at one place of the bar: facets, pass and length. */
export interface Setting {
  facets: Record<string, string>;
  pass: Pass;
  length: number;
  lengthWords: string;
  /** The series that times are compared with; null where none was measured. */
  reference: string | null;
  /** How far two names of one kernel differ: times nearer than this factor are tied. */
  tie: { factor: Amount; explanation: Sentence } | null;
  /** The call without any attention, which is no method; null where it was not timed. */
  floor: MethodRow | null;
  /** What a reader must know before trusting a time of this setting. */
  notices: Sentence[];
  rows: MethodRow[];
  /** By kind of inputs; one without a name where no error was measured. */
  best: Record<string, BestMethods>;
  withoutResult: WithoutResult[];
}

/** Time and memory of one series over the length. */
export interface SeriesLine {
  facets: Record<string, string>;
  pass: Pass;
  series: string;
  attention: string;
  points: { length: number; lengthWords: string; time: Amount; memory: Amount | null; disturbed: boolean }[];
  /** "faster from 193 tokens", "always slower", "same kernel as sdpa", "no clear order". */
  comparison: string;
  /** Where it crosses the reference; null where there is no crossing that is at least 95% certain, or it is only known
   * to lie between two lengths, because the order at those between them is not clear. */
  crossing: Amount | null;
}

export interface OperationData {
  /** Every facet of the bar with its choices in order: Run, Device, Type, Shape. */
  facets: Record<string, string[]>;
  passes: Pass[];
  lengths: { value: number; words: string; hasErrors: boolean }[];
  /** Kinds of inputs on which errors were measured, the default first. */
  inputs: string[];
  /** The attention that the run was asked for or that a plugin added; null where there is none. */
  yours: string | null;
  /** What counts as the fastest within an allowed error, in one sentence. */
  rule: string;
  settings: Setting[];
  lines: SeriesLine[];
  /** The first place of the bar: the longest length with time and error, training where there is one. */
  start: { facets: Record<string, string>; pass: Pass; length: number; inputs: string };
}

/** Models trained on one task at one length. */
export interface TrainedTask {
  id: string;
  facets: Record<string, string>;
  heading: string;
  finding: Sentence;
  metric: string;
  /** The best score without any attention to the text. */
  chance: Amount | null;
  rows: {
    series: string;
    attention: string;
    scores: Amount[];
    mean: Amount;
    /** Share of rows that expect less than one collision; null where it was not measured. */
    rareRows: Amount | null;
  }[];
  /** Trained with one attention and tested with another, over the budget of the second. */
  swaps: {
    trainedWith: string;
    testedWith: string;
    budget: string;
    points: { budget: Amount; scores: Amount[]; mean: Amount }[];
  }[];
}

/** Times of one whole model with each attention, split into attention and the rest. */
export interface WholeModel {
  id: string;
  facets: Record<string, string>;
  pass: string;
  heading: string;
  finding: Sentence;
  lengths: {
    length: Amount;
    /** The model without attention; null where it was not measured, and nothing can be split. */
    base: Amount | null;
    rows: {
      series: string;
      attention: string;
      time: Amount;
      /** What the attention adds to the model; null where it is within noise or there is no base. */
      share: Amount | null;
      withinNoise: boolean;
      memory: Amount | null;
      /** How other processes disturbed the time, which is then not split; null where they did not. */
      disturbance: string | null;
    }[];
  }[];
}

/** A panel of plotly figures inside a fold; see harness.report.model.page_parts. */
export interface PanelData {
  id: string;
  views: { facets: Record<string, string>; lengths: number[]; plots: PlotData[] }[];
}

export interface PlotData {
  id: string;
  title: string;
  remarks: string[];
  empty: string;
  data: object[];
  layout: object;
}

export interface PageData {
  operation: OperationData | null;
  trained: TrainedTask[];
  wholeModels: WholeModel[];
  panels: PanelData[];
  /** Colour, marker and dash of each series in the panels of the folds. */
  styles: Record<string, { color: string; marker: string; dash: string }>;
}
