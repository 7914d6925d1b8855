"""What all charts of plotly's share; plotly is imported when one is made."""

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# plotly.js puts a button on every figure that uploads its data to Plotly's cloud, unless it is told not to.
CHART = {"displaylogo": False, "showSendToCloud": False}
HEIGHT = 420  # pixels
# Below the chart, where it takes no width from it on a phone.
LEGEND = {"orientation": "h", "yanchor": "top", "y": -0.22, "x": 0}


def empty_chart(x: str, y: str) -> "Figure":
    """A chart with titles on its axes; they are text, whatever they hold."""
    from plotly.graph_objects import Figure

    figure = Figure()
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        xaxis_title=escape(x),
        yaxis_title=escape(y),
        legend=LEGEND,
        showlegend=True,
    )
    return figure
