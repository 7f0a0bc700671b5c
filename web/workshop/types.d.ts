// What the server tells the instructor's panel; only the type checker reads this file.

declare namespace Workshop {
  type Tools = typeof import("../js/tools.mjs").tools;
  type Child = import("../js/elements.mjs").Child;
  type Words = import("../js/words.mjs").Words;
  type Level = "front" | "0" | "1" | "2" | "3";
  type Board = import("./state.mjs").Board;
  type Undo = () => Promise<unknown>;

  /** What every part of the panel has at hand. */
  interface Kit extends Tools {
    word: Words;
    board: Board;
    /** An element that has no other properties than its classes. */
    make<Tag extends keyof HTMLElementTagNameMap>(
      tag: Tag,
      classes: string,
      ...children: (Child | Child[])[]
    ): HTMLElementTagNameMap[Tag];
    button(label: string, onclick: () => void, classes?: string): HTMLButtonElement;
    /** A form with a button of this label behind its `fields`; does its `work` instead of being sent. */
    form(classes: string, label: string, work: () => void, ...fields: (Child | Child[])[]): HTMLFormElement;
    /** A line with a name, which is cut where there is no room, and `marks` behind it. */
    headline(tag: "h4" | "strong", title: string, ...marks: Child[]): HTMLElement;
    /** A button that is a picture; its name is read out, and shown where the mouse rests. */
    iconButton(icon: string, label: string, onclick: () => void): HTMLButtonElement;
    /** Do what may fail, and say so; undefined then. */
    attempt<T>(work: () => Promise<T>): Promise<T | undefined>;
    /** Such as `12 min`, of seconds. */
    short(seconds: number): string;
    number(value: number): string;
    cost(value: number): string;
    /** What was done, and how to undo it. */
    told(what: string, undo?: Undo): void;
    actions: Actions;
    /** Open a tab, perhaps for one person alone. */
    go(section: string, user?: string): void;
  }

  /** What an instructor does; each tells of it, and how to undo it, or asks before. */
  interface Actions {
    hold(ids: string[], held: boolean): Promise<void>;
    setLevel(ids: string[], level: Level): Promise<void>;
    cancel(ids: string[]): Promise<void>;
    pause(paused: boolean): Promise<void>;
    setMode(mode: Queue["mode"]): Promise<void>;
    drain(worker: string, drained: boolean): Promise<void>;
    /** Show a lost worker no more. */
    dismiss(worker: string): Promise<void>;
    reserve(worker: string, user: string | null): Promise<void>;
    /** Whether it was sent. */
    say(text: string): Promise<boolean>;
  }

  /** One of a list's rows. */
  interface Row {
    root: HTMLElement;
    update(index: number): void;
  }

  interface Rows {
    /** Show these ids, in their order. */
    draw(ids: string[]): void;
    /** The id of the row that has the focus, or had it last. */
    active(): string;
    dispose(): void;
  }

  /** Rows of one `height` in pixels, each made when it is first seen. */
  type MakeRows = (kit: Kit, root: HTMLElement, scroller: HTMLElement, height: number, make: (id: string) => Row) => Rows;
  /** The whole panel. */
  interface View {
    root: HTMLElement;
    dispose(): void;
  }

  interface Charts {
    show(series: Series): void;
    /** Go on with what the board tells. */
    tick(): void;
    dispose(): void;
  }

  type MakeKit = (tools: Tools, word: Words, board: Board) => Kit;
  type MakeView = (tools: Tools, word: Words) => View;
  type MakeSection = (kit: Kit) => Section;
  type MakeScrolled = (kit: Kit, scroller: HTMLElement) => Section & { dispose(): void };
  /** `icons` of the tabs, by their names; `panel` is what they open. */
  type MakeTabs = (
    kit: Kit,
    icons: Record<string, string>,
    panel: HTMLElement,
    opened: (name: string) => void,
  ) => { root: HTMLElement; select(name: string): void };
  /** `home` gets the focus when the bar goes with it. */
  /** `again` tries what has failed once more. */
  type NotLoaded = (tools: Pick<Tools, "element">, word: Words, again: () => void) => HTMLElement;
  type MakeUndo = (kit: Kit, home: HTMLElement) => { root: HTMLElement; told: Kit["told"] };
  type MakeJobRow = (kit: Kit, id: string, isSelected: () => boolean) => Row;
  /** `people` for whom the worker can be kept. */
  type MakeCard = (kit: Kit, worker: string, people: () => string[]) => { root: HTMLElement; update(): void };
  type MakePerson = (
    kit: Kit,
    user: string,
    tools: (person: Person) => HTMLElement[],
  ) => { root: HTMLElement; take(person: Person): void; draw(jobs?: { queued: number; running: number }): void };
  type MakePersonTools = (kit: Kit, person: Person, usual: Limits, changed: () => void) => HTMLElement[];
  /** `about` says what to do with the `value`, whose `name` is read out. */
  type ShowSecret = (kit: Kit, place: HTMLElement, told: { name: string; value: string; about: string }) => void;
  /** `usual` are the limits of all; no `person` means everybody. */
  type MakeLimits = (
    kit: Kit,
    path: string,
    usual: Limits,
    person: Person | null,
    changed: () => void,
  ) => HTMLFormElement;
  /** Each of the `rows` begins with what it is about. */
  type MakeTable = (kit: Kit, caption: string, heads: string[], rows: string[][]) => HTMLElement;
  type MakeCharts = (kit: Kit, place: HTMLElement) => Charts;

  interface Job {
    id: string;
    user: string;
    state: "queued" | "running";
    number: number;
    /** Of its workflow; empty where nobody has told. */
    name: string;
    level: Level;
    held: boolean;
    submitted: number;
    started: number | null;
    starts_at: number | null;
    /** Bytes of a GPU's memory. */
    need: number | null;
    why: "" | "no_worker" | "memory" | "paused" | "held" | "models" | "nodes";
    /** What no worker has. */
    lacks: string;
    worker: string | null;
    progress: { node: string; title: string; value: number; max: number } | null;
  }

  interface Device {
    name: string;
    /** Bytes. */
    vram_total: number;
    vram_free: number | null;
    /** Percent. */
    use: number | null;
    /** Degrees Celsius. */
    temperature: number | null;
  }

  interface Worker {
    name: string;
    state: "idle" | "busy" | "draining" | "lost";
    host: string;
    version: string;
    job: string | null;
    reserved_for: string | null;
    drained: boolean;
    /** Seconds for which it still counts as live. */
    lease: number;
    devices: Device[];
    loaded: string[];
    /** Models on their way to it, in figures; empty for none. */
    pulling: string;
    seen: number | null;
    /** When it was given up; null while it is not. */
    lost: number | null;
    price_hour: number | null;
  }

  interface Queue {
    mode: "fair" | "round_robin" | "fifo";
    paused: boolean;
    queued: number;
    running: number;
    /** How many have ended so far. */
    ended: number;
  }

  interface Snapshot {
    revision: number;
    now: number;
    store: boolean;
    queue: Partial<Queue>;
    workers: Worker[];
    jobs: Job[];
    order: string[];
    here: string[];
  }

  interface Change {
    revision: number;
    now?: number;
    store: boolean;
    queue?: Queue;
    here?: string[];
    workers?: { set?: Worker[]; gone?: string[] };
    jobs?: { set?: Job[]; gone?: string[]; moved?: [string, number][]; order?: string[] };
  }

  type Write = (value: number) => string;
  type ShowSums = (what: "worker" | "user", of: any[]) => HTMLElement;
  type Chart = { id: string; keys: Exclude<keyof Series, "at">[]; most?: number };
  type PlaceRow = (row: HTMLElement, index: number, isActive: boolean) => void;
  type ShowDevice = (device: Device, there?: Element) => HTMLElement;
  type ShowFigures = (caption: string, columns: string[], rows: string[][]) => HTMLElement;
  type MakeActions = (kit: Kit) => Actions;
  type Patch = (path: string, body: object) => Promise<any>;
  /** `then` is what it was before. */
  type ChangeBack = (path: string, now: object, then: object, what: string) => Promise<void>;
  type Tell = (key: string, values: Trouble["values"], isGrave?: boolean) => void;

  /** Something that is wrong: a key of the words, and the values in it. */
  interface Trouble {
    key: string;
    values: Record<string, string | number>;
    /** Whether nothing goes on before somebody does something. */
    isGrave: boolean;
  }

  /** Jobs that no worker can run for the same reason; `need` is the least of theirs. */
  type Stuck = { why: string; lacks: string; need: number; count: number };

  /** What the panel shows in one of its tabs. */
  interface Section {
    root: HTMLElement;
    /** Show what the board tells now; called once a frame at most, and only while the tab is shown. */
    draw(): void;
    /** The tab is shown, perhaps for one person alone. */
    show?(user?: string): void;
    dispose?(): void;
  }

  interface Limits {
    per_person: number | null;
    per_minute: number | null;
    gpu_day: number | null;
    gpu_workshop: number | null;
    credits_hour: number | null;
    disk: number | null;
  }

  interface Person {
    user: string;
    role: "participant" | "instructor";
    here?: boolean;
    last_seen?: number | null;
    limits: Limits;
    /** Names of the limits that are not those of all. */
    own: string[];
    used: { queued: number; gpu_day: number; gpu_workshop: number; booked: number; credits: number | null };
  }

  /** A model that somebody has brought; `size` is in bytes. */
  interface PeoplesModel {
    user: string;
    folder: string;
    name: string;
    size: number;
    in_graphs: string;
  }

  interface Template {
    name: string;
    title?: string;
    missing: number;
    files: { folder: string; file: string; url?: string; workers: string[] }[];
  }

  interface Sums {
    jobs: number;
    states: Record<string, number>;
    files: number;
    wait_p50: number | null;
    wait_p95: number | null;
    gpu_seconds: number;
    cost: number | null;
    frames: number;
    cost_per_frame: number | null;
  }

  interface HistoryJob {
    job: string;
    user: string;
    name: string;
    state: string;
    ended: number;
    waited: number | null;
    ran: number;
    worker: string | null;
    files: number;
    cost: number | null;
  }

  interface History {
    totals: Sums;
    people: (Sums & { user: string })[];
    workers: (Sums & { worker: string })[];
    jobs: HistoryJob[];
  }

  /** What something costs: so much of it, in hours, GiB months or GiB; null where no price is set. */
  interface CostLine {
    what: "gpu" | "server" | "storage" | "traffic";
    amount: number;
    amount_by_end: number;
    price: number | null;
    cost: number | null;
    cost_by_end: number | null;
  }

  interface Cost {
    currency: string;
    begins: number;
    ends: number;
    since: number;
    is_end_known: boolean;
    lines: CostLine[];
    cost: number | null;
    cost_by_end: number | null;
    workers: { worker: string; price_hour: number | null; hours: number; cost: number | null; is_here: boolean }[];
    unpriced_hours: number;
    always_on: { gpus: number; hours: number; price_hour: number | null; cost: number | null };
    /** Bytes. */
    to_people: number;
    to_workers: number;
    /** What is kept now. */
    gib: number;
  }

  /** How backups stand; moments are Unix seconds, sizes bytes. */
  interface Backups {
    /** Null where no place is set. */
    where: string | null;
    hours: number;
    running: { files: number; of: number; size: number } | null;
    last: { taken: number; seconds: number; new_files: number; new_size: number } | null;
    next: number | null;
    failed: { at: number; error: string } | null;
    /** Whose own files could not be backed up. */
    workers: { worker: string; at: number; error: string }[];
  }

  /** Of one that is damaged nothing but its moment is known. */
  interface BackupSnapshot {
    id: string;
    taken: number;
    is_damaged: boolean;
    reason?: string;
    host?: string;
    /** The worker whose own files it holds; empty for the workshop's. */
    machine?: string;
    files?: number;
    size?: number;
    new_files?: number;
    new_size?: number;
    seconds?: number;
    /** What is not in it that should be; `more_problems` counts those that are not named. */
    problems: string[];
    more_problems: number;
  }

  /** `error` says why the backup cannot be read. */
  type BackupList = { snapshots: BackupSnapshot[]; error: string };

  type Column = (number | null)[];
  interface Series {
    at: number[];
    queued: Column;
    running: Column;
    wait_p50: Column;
    wait_p95: Column;
    gpu_use: Column;
    vram_used: Column;
    vram_total: Column;
  }
}
