"""What losses and labelled data say of downstream tasks."""

from foretrain.downstream.link import LinkDoubt as LinkDoubt
from foretrain.downstream.link import MetricLink as MetricLink
from foretrain.downstream.link import fit_link as fit_link
from foretrain.downstream.prediction import MetricForecast as MetricForecast
from foretrain.downstream.prediction import forecast_metric as forecast_metric
from foretrain.downstream.tasks import TaskLaws as TaskLaws
from foretrain.downstream.tasks import fit_task_laws as fit_task_laws
