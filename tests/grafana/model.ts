/**
 * What a dashboard's file must be: Grafana's own types, as they are in JSON.
 *
 * The types of `@grafana/schema` leave panels open, whatever is in them; here each kind has the options and the
 * fields of its own plugin, and nothing else.
 */
import type {
  AnnotationQuery,
  BarGaugeDisplayMode,
  Dashboard,
  DataSourceRef,
  FieldConfig,
  GraphFieldConfig,
  Panel,
  RowPanel,
  TableFieldOptions,
} from '@grafana/schema';
import type { Options as BarGauge } from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type { Options as Logs } from '@grafana/schema/dist/esm/raw/composable/logs/panelcfg/x/LogsPanelCfg_types.gen';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as statetimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type { Options as Table } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type { Options as TimeSeries } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** A type as it is in JSON: members of enumerations are their values. */
type Json<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer Value extends number}`
      ? Value
      : never
    : T extends boolean | null | undefined
      ? T
      : unknown extends T
        ? T
        : T extends Array<infer Item>
          ? Array<Json<Item>>
          : { [Name in keyof T]: Json<T[Name]> };

/** A query for Prometheus; its type is in `@grafana/prometheus`, which is all of the plugin. */
interface PrometheusQuery {
  datasource: DataSourceRef;
  editorMode: 'code' | 'builder';
  exemplar?: boolean;
  expr: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant: boolean;
  legendFormat?: string;
  range: boolean;
  refId: string;
}

interface LokiQuery {
  datasource: DataSourceRef;
  editorMode: 'code' | 'builder';
  expr: string;
  legendFormat?: string;
  queryType: 'range' | 'instant';
  refId: string;
}

type Common = Omit<Json<Panel>, 'fieldConfig' | 'options' | 'targets' | 'type'>;

/** Each of these a dashboard of ours must have, although Grafana would do without. */
type Wanted = 'datasource' | 'description' | 'gridPos' | 'id' | 'title';

type PanelOf<Kind extends string, Options, Custom, Query = PrometheusQuery> = Common &
  Required<Pick<Common, Wanted>> & {
    fieldConfig: {
      defaults: Omit<Json<FieldConfig>, 'custom'> & { custom?: Json<Custom> };
      overrides: Array<{ matcher: { id: string; options: string }; properties: Array<{ id: string; value: unknown }> }>;
    };
    options: Json<Options>;
    targets: Query[];
    type: Kind;
  };

type AnyPanel =
  | PanelOf<'bargauge', BarGauge, never>
  | PanelOf<'heatmap', heatmap.Options, heatmap.FieldConfig>
  | PanelOf<'logs', Logs, never, LokiQuery>
  | PanelOf<'stat', Stat, never>
  | PanelOf<'state-timeline', statetimeline.Options, statetimeline.FieldConfig>
  | PanelOf<'table', Table, TableFieldOptions>
  | PanelOf<'timeseries', TimeSeries, GraphFieldConfig, PrometheusQuery | LokiQuery>;

/** What only the annotations of Prometheus have. */
interface PrometheusEvents {
  expr: string;
  step: string;
  textFormat: string;
  titleFormat: string;
  useValueForTime: boolean;
}

type Events = Json<Omit<AnnotationQuery, 'snapshotData' | 'target'>> & PrometheusEvents;

export type GrafanaDashboard = Omit<Json<Dashboard>, 'annotations' | 'panels'> &
  Required<Pick<Dashboard, 'description' | 'refresh' | 'title' | 'uid'>> & {
    annotations: { list: Events[] };
    panels: Array<AnyPanel | Json<RowPanel>>;
  };
