// What these modules use of ComfyUI's page; only the type checker reads this file.

declare module "*/scripts/app.js" {
  export const app: ComfyApp;
}

interface ComfyApp {
  api: ComfyApi;
  bodyTop: HTMLElement;
  canvas?: { setDirty(foreground: boolean, background: boolean): void };
  extensionManager: ComfyExtensionManager;
  graph?: { nodes?: { id: string | number; type: string; title?: string }[] };
  loadGraphData(...given: any[]): Promise<void>;
  refreshComboInNodes(): Promise<void>;
  registerExtension(extension: ComfyExtension): void;
}

interface ComfyApi {
  clientId?: string;
  addEventListener(type: string, listener: (event: CustomEvent) => void, options?: AddEventListenerOptions): void;
  removeEventListener(type: string, listener: (event: CustomEvent) => void): void;
  apiURL(path: string): string;
  dispatchCustomEvent(type: string, detail?: unknown): boolean;
  fetchApi(path: string, options?: RequestInit): Promise<Response>;
  fileURL(path: string): string;
}

interface ComfyExtensionManager {
  command: { execute(id: string): Promise<void> };
  registerSidebarTab(tab: ComfySidebarTab): void;
  setting: {
    get(id: string): any;
    set(id: string, value: unknown): Promise<void>;
    settings: Record<string, { defaultValue?: unknown } | undefined>;
  };
  sidebarTab: { sidebarTabs: ComfySidebarTab[]; activeSidebarTabId: string | null };
  toast: { add(message: ComfyToast): void };
  workflow: { activeWorkflow?: { path?: string; filename?: string; isTemporary?: boolean } };
}

interface ComfySidebarTab {
  id: string;
  icon: string;
  iconBadge?: string;
  title: string;
  tooltip: string;
  type: "custom";
  render(container: HTMLElement): void;
  destroy?(): void;
}

interface ComfyToast {
  severity: "success" | "info" | "warn" | "error";
  summary: string;
  detail?: string;
  /** Milliseconds; without it the message stays until it is closed. */
  life?: number;
  styleClass?: string;
}

interface ComfyExtension {
  name: string;
  commands?: { id: string; label: string; icon?: string; function: () => void }[];
  menuCommands?: { path: string[]; commands: string[] }[];
  setup?(app: ComfyApp): void | Promise<void>;
}
