#include "core/report/html_style.h"

namespace tanren {

const std::string_view kPageStyle = R"css(
:root{color-scheme:light dark;--bg:#fff;--panel:#f7f7f5;--ink:#1f2328;--dim:#626a73;--line:#dcdcd6;--grid:#ebebe6;
--mark:#fff1c2;--good:#1a7f37;--bad:#c0362c;--warn:#8a5a00;--c0:#2f6db5;--c1:#c8601a;--c2:#3d8b4f;--c3:#8557a8;
--c4:#b03a5b;--c5:#5f6b76;--meter:#d7e5f5}
@media(prefers-color-scheme:dark){:root{--bg:#15181c;--panel:#1c2026;--ink:#d8dde3;--dim:#929aa4;--line:#333a43;
--grid:#262c33;--mark:#4a3d12;--good:#56c271;--bad:#f0776c;--warn:#dba642;--c0:#6ea8e8;--c1:#eb9152;--c2:#6fc383;
--c3:#b893dc;--c4:#e87f9c;--c5:#a2adb9;--meter:#23384f}}
*{box-sizing:border-box}
html{scroll-padding-top:3rem}
body{margin:0;background:var(--bg);color:var(--ink);font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
main,header{max-width:1400px;margin:0 auto;padding:0 20px}
header{padding-top:18px}
h1{font-size:21px;margin:0 0 2px;overflow-wrap:anywhere}
h2{font-size:18px;margin:34px 0 8px;padding-top:14px;border-top:2px solid var(--line)}
h3{font-size:14px;margin:20px 0 6px}
h4,h5{font-size:13px;margin:14px 0 4px}
small{font-weight:400;color:var(--dim);font-size:12px;margin-left:6px}
p{margin:4px 0}
.dim{color:var(--dim)}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
nav{position:sticky;top:0;z-index:2;background:var(--bg);border-bottom:1px solid var(--line);overflow-x:auto;white-space:nowrap}
nav div{max-width:1400px;margin:0 auto;padding:7px 20px}
a{color:var(--c0);text-decoration:none}
nav a{margin-right:16px}
a:hover{text-decoration:underline}
.tiles{display:flex;flex-wrap:wrap;gap:0 28px;margin:4px 0 8px}
.tiles div{padding:4px 0}
.tiles div>span{display:block;font-size:12px;color:var(--dim)}
.tiles b{font-size:16px;font-weight:600;font-variant-numeric:tabular-nums}
.notes{margin:6px 0;padding:6px 12px;border-left:3px solid var(--warn);background:var(--panel)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(350px,100%),1fr));gap:10px 14px}
.chart{margin:0;padding:8px 8px 2px;background:var(--panel);border:1px solid var(--line);border-radius:4px;position:relative;min-width:0;display:flex;flex-direction:column;justify-content:space-between}
.chart svg{display:block;width:100%;height:auto;overflow:visible}
figcaption{font-size:12px;padding:0 4px 2px;min-height:1.5em}
figcaption>b{margin-right:6px}
.key{color:var(--dim);margin-right:8px;overflow-wrap:anywhere}
.key b{white-space:nowrap;color:var(--ink);font-weight:600;font-variant-numeric:tabular-nums}
.key:before{content:"";display:inline-block;width:10px;height:3px;vertical-align:middle;margin-right:4px;background:currentColor;border-radius:1px}
.key.c0:before{background:var(--c0)}.key.c1:before{background:var(--c1)}.key.c2:before{background:var(--c2)}
.key.c3:before{background:var(--c3)}.key.c4:before{background:var(--c4)}.key.c5:before{background:var(--c5)}
svg text{font-size:10.5px;fill:var(--dim);font-variant-numeric:tabular-nums}
.y{text-anchor:end}.x{text-anchor:middle}
.g{stroke:var(--grid);fill:none}.a{stroke:var(--line);fill:none}
.l{fill:none;stroke-width:1.5;stroke-linejoin:round;stroke-linecap:round}
.d{fill:none;stroke-width:4.5;stroke-linecap:round}
path.c0{stroke:var(--c0)}path.c1{stroke:var(--c1)}path.c2{stroke:var(--c2)}path.c3{stroke:var(--c3)}path.c4{stroke:var(--c4)}path.c5{stroke:var(--c5)}
.m{stroke:var(--warn);stroke-width:1.2;stroke-dasharray:3 3;fill:none}
.n{fill:var(--bad);stroke:none}
.h{stroke:var(--dim);stroke-width:1;fill:none;pointer-events:none}
.tip{position:absolute;z-index:1;pointer-events:none;background:var(--bg);border:1px solid var(--line);border-radius:3px;padding:3px 7px;font-size:12px;white-space:pre;font-variant-numeric:tabular-nums;box-shadow:0 1px 4px #0003}
.wide{overflow-x:auto;margin:6px 0}
table{border-collapse:collapse;font-size:13px}
th,td{text-align:left;padding:3px 12px 3px 0;vertical-align:top;border-bottom:1px solid var(--grid)}
th{font-weight:600;color:var(--dim);white-space:nowrap}
.r{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.t{white-space:pre-wrap;overflow-wrap:anywhere;min-width:180px;max-width:560px;font:12px/1.4 ui-monospace,"SFMono-Regular",Menlo,Consolas,"DejaVu Sans Mono",monospace}
th.t{font:inherit;font-weight:600}
td .meter{display:inline-block;min-width:64px;padding:0 4px;background:linear-gradient(var(--meter),var(--meter)) no-repeat left/var(--v) 100%}
details{margin:8px 0;border:1px solid var(--line);border-radius:4px;padding:0 12px}
details[open]{padding-bottom:8px}
summary{cursor:pointer;padding:6px 0;font-weight:600;font-size:13px}
pre{margin:0;overflow-x:auto;font:12px/1.45 ui-monospace,"SFMono-Regular",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.yaml{columns:3 320px;column-gap:28px;white-space:pre-wrap;overflow-wrap:anywhere}
mark{background:var(--mark);color:inherit;border-radius:2px}
footer{max-width:1400px;margin:30px auto 20px;padding:0 20px;color:var(--dim);font-size:12px}
@media print{nav{position:static}.chart,tr{break-inside:avoid}}
)css";

const std::string_view kPageScript = R"js(
(function(){
"use strict";
var near=null;
function trim(v,d){return String(parseFloat(v.toPrecision(d)));}
function scaled(v,base,names){
  var i=0,a=Math.abs(v);
  while(a>=base&&i+1<names.length){a/=base;v/=base;i++;}
  return trim(v,5)+names[i];
}
// As Unit in html_scale.h.
function show(v,unit){
  if(unit===1)return trim(v*100,5)+"%";
  if(unit===2)return scaled(v,1024,[" B"," KiB"," MiB"," GiB"," TiB"," PiB"]);
  if(unit===3)return scaled(v,1000,["","k","M","G","T","P","E"]);
  return trim(v,6)+(unit===4?" s":"");
}
function parse(path){
  var at=path.getAttribute("d").slice(1).split("L");
  return path.getAttribute("data-v").split(" ").map(function(pair,i){
    var p=pair.split(":"),xy=at[i].split(" ");
    return {step:+p[0],value:+p[1],x:+xy[0],y:+xy[1]};
  });
}
function curves(svg){
  if(!svg.curves)svg.curves=Array.prototype.map.call(svg.querySelectorAll(".l"),function(path){
    return {name:path.getAttribute("data-n"),unit:+path.getAttribute("data-u"),points:parse(path)};
  });
  return svg.curves;
}
function clear(){
  if(near){near.line.remove();near.tip.remove();near=null;}
}
function element(name,kind){
  var made=document.createElementNS("http://www.w3.org/2000/svg",name);
  made.setAttribute("class",kind);
  return made;
}
function move(event){
  var figure=event.currentTarget,svg=figure.querySelector("svg"),box=svg.getBoundingClientRect();
  var x=(event.clientX-box.left)*svg.viewBox.baseVal.width/box.width,best=null;
  var all=curves(svg);
  all.forEach(function(c){c.points.forEach(function(p){
    if(!best||Math.abs(p.x-x)<Math.abs(best.x-x))best=p;
  });});
  if(!best)return;
  var lines=["step "+best.step.toLocaleString("en")];
  all.forEach(function(c){
    var seen={},values=[];
    c.points.forEach(function(p){if(p.step===best.step&&!seen[p.value]){seen[p.value]=1;values.push(show(p.value,c.unit));}});
    if(values.length)lines.push(c.name+"  "+values.join(", "));
  });
  if(!near||near.figure!==figure){
    clear();
    near={figure:figure,line:element("path","h"),tip:document.createElement("div")};
    near.tip.className="tip";
    svg.appendChild(near.line);
    figure.appendChild(near.tip);
  }
  near.line.setAttribute("d","M"+best.x+" 10V156");
  near.tip.textContent=lines.join("\n");
  var left=best.x*box.width/svg.viewBox.baseVal.width+box.left-figure.getBoundingClientRect().left;
  var room=figure.clientWidth-near.tip.offsetWidth-4;
  near.tip.style.left=Math.max(4,left+12<room?left+12:Math.min(room,left-near.tip.offsetWidth-12))+"px";
  near.tip.style.top="34px";
}
document.querySelectorAll(".chart").forEach(function(figure){
  figure.addEventListener("pointermove",move);
  figure.addEventListener("pointerleave",clear);
});
})();
)js";

}  // namespace tanren
